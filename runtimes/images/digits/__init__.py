"""A small Stable Diffusion pipeline that draws handwritten digits from captions in words.

No package carries the weights of a text-to-image model, so a machine without the model hub trains one. It has
all parts of a Stable Diffusion model (tokenizer, text encoder, autoencoder, denoiser, scheduler), built from
configurations and trained on the 1,797 digits that come with scikit-learn, and is served by the code that
serves the large ones.
"""
