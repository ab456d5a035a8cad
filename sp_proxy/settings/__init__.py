"""Every setting, its unit, default and environment name; the only room that reads configuration."""
