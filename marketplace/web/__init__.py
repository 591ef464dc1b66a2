"""The portal's frame: base templates, design system, static assets and signing in."""
