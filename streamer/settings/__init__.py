"""All settings of all roles."""

from streamer.settings.loading import ENV_DELIMITER, ENV_PREFIX, SECRETS, load_settings
from streamer.settings.provider import ProviderName, ProviderSettings
from streamer.settings.sections import Settings

__all__ = ["ENV_DELIMITER", "ENV_PREFIX", "SECRETS", "ProviderName", "ProviderSettings", "Settings", "load_settings"]
