"""Frameworks for the tests of workspaces."""

from __future__ import annotations

from marketplace.catalog.models import Framework, License


def add_framework(
    slug: str = "test-framework", *, family: str = "cpu", image: str = "marketplace/workspace-pytorch:test"
) -> Framework:
    """A framework, made once; an empty `image` offers no workspace."""
    license, _ = License.objects.get_or_create(slug="test-license", defaults={"name": "Test license"})
    framework, _ = Framework.objects.get_or_create(
        slug=slug,
        defaults={
            "name": slug.replace("-", " ").capitalize(),
            "version": "1.0",
            "accelerator_family": family,
            "image": "example/framework:1.0",
            "workspace_image": image,
            "license": license,
        },
    )
    return framework
