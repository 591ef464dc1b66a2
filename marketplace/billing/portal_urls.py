"""URLs of the portal's pages about cost."""

from django.urls import path

from marketplace.billing import portal

urlpatterns = [
    path("usage/", portal.UsagePage.as_view(), name="usage"),
]
