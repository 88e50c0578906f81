"""The referee's question put to gates: do they select, or damp whatever is there?"""

from mechgate.referee.design import SelectivitySettings
from mechgate.referee.report import SelectivityReport
from mechgate.referee.run import selectivity

__all__ = ["SelectivityReport", "SelectivitySettings", "selectivity"]
