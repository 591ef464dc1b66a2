from rest_framework.routers import SimpleRouter

from deployments.tuning.api import DatasetViewSet, FineTuningJobViewSet

router = SimpleRouter()
router.register("datasets", DatasetViewSet)
router.register("fine-tuning-jobs", FineTuningJobViewSet)
urlpatterns = router.urls
