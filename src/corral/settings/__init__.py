"""Settings of a server and its commands, from a TOML file, the environment and the command line."""

from corral.settings.deployments import DeploymentSettings, OpenVinoSettings
from corral.settings.server import (
    QUANTIZATIONS,
    Settings,
    default_config_dir,
    default_data_dir,
    load_settings,
    served_hosts,
    shown_settings,
    worker_environment,
)
from corral.settings.values import expected

__all__ = [
    "QUANTIZATIONS",
    "DeploymentSettings",
    "OpenVinoSettings",
    "Settings",
    "default_config_dir",
    "default_data_dir",
    "expected",
    "load_settings",
    "served_hosts",
    "shown_settings",
    "worker_environment",
]
