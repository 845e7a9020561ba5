"""What runs at this moment, who waits for whom, and what is held open."""

from perfcore.config import load_config
from perfcore.ui import live

config = load_config()
if chosen := live.choose(config):
    live.watch(config, *chosen)
