"""What can be done in marketplace: one noun a file, one service."""

from aitbc.modules.marketplace.service.service import MarketplaceService

__all__ = ["MarketplaceService"]
