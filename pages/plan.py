"""Any plan, pasted: drawn, with what it shows to be wrong, and beside another one."""

from perfcore.ui import plan_viewer

first, second = plan_viewer.inputs()
plan_viewer.show(first, second)
