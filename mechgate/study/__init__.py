"""A study: one config, every question, one run folder that survives being killed."""

from mechgate.study.config import StudyConfig, load_config
from mechgate.study.run import run_study

__all__ = ["StudyConfig", "load_config", "run_study"]
