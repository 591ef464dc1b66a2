from rest_framework.routers import SimpleRouter

from deployments.serving.api import DeploymentViewSet, PlanViewSet
from deployments.serving.deletion_api import DeletionReceiptViewSet

router = SimpleRouter()
router.register("plans", PlanViewSet)
router.register("deployments", DeploymentViewSet)
router.register("deletion-receipts", DeletionReceiptViewSet)
urlpatterns = router.urls
