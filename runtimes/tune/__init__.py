"""Fine-tuning: trains a LoRA adapter on chats, `python -m runtimes.tune`.

The loop is our own, not transformers' Trainer: its checkpoints are pickles (optimizer.pt, rng_state.pth,
training_args.bin), which a tenant could swap for code; it counts batches in examples where we count tokens;
and it imports for seconds what is not needed here. LoRA itself is peft's, the model transformers'.
"""
