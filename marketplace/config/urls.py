"""Every URL of the web process. Subjects own theirs; a subject of `deployments` is named, not imported."""

from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from marketplace.rest.fallbacks import unknown_route

# One line for each subject.
api = [
    path("", include("marketplace.accounts.urls")),
    path("", include("marketplace.catalog.urls")),
    path("", include("marketplace.hardware.urls")),
    path("", include("marketplace.billing.urls")),
    path("", include("deployments.serving.urls")),
    path("", include("deployments.tuning.urls")),
    path("", include("deployments.workspaces.urls")),
]

portal = [
    path("", include("deployments.serving.portal_urls")),
    path("", include("deployments.tuning.portal_urls")),
    path("", include("deployments.workspaces.portal_urls")),
    path("", include("marketplace.accounts.portal_urls")),
    path("", include("marketplace.billing.portal_urls")),
    path("", include("marketplace.web.urls")),
]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include(api)),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path(
        "api/docs/",
        SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="rest/docs.html"),
        name="docs",
    ),
    re_path("^api/", unknown_route),
    *portal,
]

handler400 = "marketplace.rest.fallbacks.bad_request"
handler403 = "marketplace.rest.fallbacks.permission_denied"
handler404 = "marketplace.rest.fallbacks.page_not_found"
handler500 = "marketplace.rest.fallbacks.server_error"
