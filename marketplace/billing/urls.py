from django.urls import path
from rest_framework.routers import SimpleRouter

from marketplace.billing import api

router = SimpleRouter()
router.register("usage/intervals", api.UsageIntervalViewSet, basename="usage-interval")
router.register("prices", api.PriceViewSet, basename="price")

urlpatterns = [
    path("usage/", api.UsageView.as_view(), name="usage-statement"),
    *router.urls,
]
