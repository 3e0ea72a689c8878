from .packing import PackedTrajectory as PackedTrajectory
from .ranks import Ranks as Ranks
from .replay import ReplayBuffer as ReplayBuffer
