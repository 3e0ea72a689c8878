from .detailed_balance import (
    DetailedBalance as DetailedBalance,
    ModifiedDetailedBalance as ModifiedDetailedBalance,
    detailed_balance_loss as detailed_balance_loss,
    modified_detailed_balance_loss as modified_detailed_balance_loss,
)
from .distillation import TopKDistillation as TopKDistillation, distillation_loss as distillation_loss
from .flowrl import FlowRL as FlowRL, flowrl_loss as flowrl_loss
from .gflowrl import GFlowRL as GFlowRL
from .grpo import GRPO as GRPO, grpo_loss as grpo_loss
from .likelihood import Likelihood as Likelihood, likelihood_loss as likelihood_loss
from .ppo import PPO as PPO, ppo_loss as ppo_loss, value_loss as value_loss
from .preference import (
    DPO as DPO,
    IPO as IPO,
    KTO as KTO,
    dpo_loss as dpo_loss,
    ipo_loss as ipo_loss,
    kto_loss as kto_loss,
)
from .reward_model import (
    BradleyTerry as BradleyTerry,
    LabelLoss as LabelLoss,
    bradley_terry_loss as bradley_terry_loss,
    label_loss as label_loss,
)
from .subtb import (
    ModifiedSubTB as ModifiedSubTB,
    SubTB as SubTB,
    modified_subtb_loss as modified_subtb_loss,
    subtb_loss as subtb_loss,
)
from .trajectory_balance import TrajectoryBalance as TrajectoryBalance, tb_loss as tb_loss
from .vargrad import VarGrad as VarGrad, vargrad_loss as vargrad_loss
