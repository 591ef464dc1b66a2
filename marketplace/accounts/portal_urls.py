"""URLs of the portal's pages about the organization."""

from django.urls import path

from marketplace.accounts import portal

urlpatterns = [
    path("choose-organization/", portal.choose_organization, name="choose-organization"),
]
