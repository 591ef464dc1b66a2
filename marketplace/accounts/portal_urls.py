"""URLs of the portal's pages about the organization."""

from django.urls import path

from marketplace.accounts import portal

urlpatterns = [
    path("choose-organization/", portal.choose_organization, name="choose-organization"),
    path("api-keys/", portal.ApiKeysPage.as_view(), name="api-keys"),
    path("api-keys/<slug:public_id>/revoke/", portal.RevokeApiKey.as_view(), name="revoke-api-key"),
    path("members/", portal.MembersPage.as_view(), name="members"),
    path("members/<slug:public_id>/", portal.ChangeMember.as_view(), name="change-member"),
]
