"""Every URL of the web process. Subjects own theirs; a subject of `deployments` is named, not imported."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
