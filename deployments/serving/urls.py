from rest_framework.routers import SimpleRouter

from deployments.serving.api import DeploymentViewSet, PlanViewSet

router = SimpleRouter()
router.register("plans", PlanViewSet)
router.register("deployments", DeploymentViewSet)
urlpatterns = router.urls
