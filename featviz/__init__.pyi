# The public names of featviz, each listed once: read by type checkers, and at run time by `__init__.py`.
# (In a stub, `x as x` marks a name as public.)

from . import objectives as objectives
from . import optimizers as optimizers
from . import param as param
from . import transforms as transforms
from .apps.accentuate.accentuate import accentuate as accentuate
from .apps.atlas.atlas import atlas as atlas
from .apps.blocks.blocks import blocks as blocks
from .apps.circuits.circuit import circuit as circuit
from .apps.concepts.concept import Concept as Concept
from .apps.dictionaries.fit import fit_dictionary as fit_dictionary
from .apps.diff.diff import diff as diff
from .apps.doctor.doctor import doctor as doctor
from .apps.dream.dream import dream as dream
from .apps.dream.video import dream_video as dream_video
from .apps.dream.video import dream_zoom as dream_zoom
from .apps.embeddings.sources import embeddings as embeddings
from .apps.examples.examples import examples as examples
from .apps.explain import methods as methods
from .apps.explain.attention_record import attention as attention
from .apps.explain.evidence import evidence as evidence
from .apps.explain.explain import compare as compare
from .apps.explain.explain import explain as explain
from .apps.explore.explore import explore as explore
from .apps.gallery.gallery import gallery as gallery
from .apps.gallery.sweep import sweep as sweep
from .apps.judge.judge import judge as judge
from .apps.replay import replay as replay
from .apps.shared.rendering.ray_backend import RayBackend as RayBackend
from .apps.texture.texture import texture as texture
from .apps.units.unit import unit as unit
from .engine import PRESETS as PRESETS
from .engine import Recipe as Recipe
from .engine import Rendering as Rendering
from .engine import render as render
from .engine import score as score
from .errors import (
    AddressError as AddressError,
)
from .errors import (
    FeatvizError as FeatvizError,
)
from .errors import (
    FeatvizWarning as FeatvizWarning,
)
from .errors import (
    ModelError as ModelError,
)
from .errors import (
    OutputError as OutputError,
)
from .errors import (
    RecipeError as RecipeError,
)
from .errors import (
    RenderError as RenderError,
)
from .errors import (
    SettingError as SettingError,
)
from .errors import (
    WeightsError as WeightsError,
)
from .io import progress_bar as progress_bar
from .io import save_video as save_video
from .network import (
    Dictionary as Dictionary,
)
from .network import (
    Execution as Execution,
)
from .network import (
    Given as Given,
)
from .network import (
    InputSpec as InputSpec,
)
from .network import (
    Network as Network,
)
from .network import (
    TokenSpec as TokenSpec,
)
from .network import (
    combine as combine,
)
from .network import (
    load as load,
)
from .network import (
    models as models,
)
from .network import (
    zero_shot as zero_shot,
)
from .param.prior_fitting import fit_prior as fit_prior

__version__: str
