from django.urls import path

from deployments.workspaces.portal import WorkspacePage, WorkspacesPage

urlpatterns = [
    path("workspaces/", WorkspacesPage.as_view(), name="workspaces"),
    path("workspaces/<str:public_id>/", WorkspacePage.as_view(), name="workspace"),
]
