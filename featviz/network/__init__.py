"""Networks: a module, what it expects as input, its layers and their activations."""

from featviz.network.activations import Activations
from featviz.network.batch_statistics import batch_norm_layers, batch_statistics
from featviz.network.checkpointing import raise_checkpoint_error
from featviz.network.combining import combine
from featviz.network.dictionaries.attached import SUFFIX as CODES
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.execution import PRECISIONS, Execution
from featviz.network.fast.conv_backward import plain_backward
from featviz.network.gradients import Rectifying
from featviz.network.inputs.given_inputs import Given
from featviz.network.inputs.input_files import fit_to_input, read_start, read_values
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.inputs.token_spec import TokenSpec
from featviz.network.layer_lookup import LayerLike
from featviz.network.layers import LayerRow, LayerTable
from featviz.network.layout import Layout
from featviz.network.loading.load import find, is_on_this_machine, is_user_model, load, models
from featviz.network.loading.weights import DEFAULT_WEIGHTS, RANDOM_WEIGHTS
from featviz.network.loading.zero_shot import zero_shot
from featviz.network.network import Network
from featviz.network.neutral_state import neutral_state
from featviz.network.outputs import OUTPUT, OUTPUT_KINDS, OutputKind, index_of_class
from featviz.network.session import Forward

__all__ = [
    "CODES", "DEFAULT_WEIGHTS", "OUTPUT", "OUTPUT_KINDS", "PRECISIONS", "RANDOM_WEIGHTS", "Activations", "Dictionary",
    "Execution", "Forward", "Given", "InputSpec", "LayerLike", "LayerRow", "LayerTable", "Layout", "Network",
    "OutputKind", "Rectifying", "TokenSpec", "batch_norm_layers", "batch_statistics", "combine", "find", "fit_to_input",
    "index_of_class", "is_on_this_machine", "is_user_model", "load", "models", "neutral_state", "plain_backward",
    "raise_checkpoint_error", "read_start", "read_values", "zero_shot",
]  # fmt: skip
