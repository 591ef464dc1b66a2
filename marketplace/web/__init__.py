"""The portal's frame: base templates, design system, static assets and the home page."""
