from rest_framework.routers import SimpleRouter

from deployments.workspaces.api import WorkspaceViewSet

router = SimpleRouter()
router.register("workspaces", WorkspaceViewSet)
urlpatterns = router.urls
