from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "marketplace.catalog"
    verbose_name = "Catalog"
