from rest_framework.routers import SimpleRouter

from marketplace.hardware import api

router = SimpleRouter()
router.register("flavors", api.FlavorViewSet, basename="flavor")
router.register("regions", api.RegionViewSet, basename="region")
router.register("accelerators", api.AcceleratorViewSet, basename="accelerator")

urlpatterns = router.urls
