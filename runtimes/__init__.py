"""Runtime containers: what serves and tunes a model. Imports torch; never Django, never the control plane."""
