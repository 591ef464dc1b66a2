from rest_framework.routers import SimpleRouter

from marketplace.catalog import api

router = SimpleRouter()
router.register("models", api.ModelViewSet, basename="model")
router.register("frameworks", api.FrameworkViewSet, basename="framework")
router.register("licenses", api.LicenseViewSet, basename="license")
router.register("imports", api.ImportViewSet, basename="import")

urlpatterns = router.urls
