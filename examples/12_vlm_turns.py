"""A vision-language model calls tools, sees their results, and TRL trains it on the reward of its episodes.

A tiny model is built offline and learns the form of calls from conversations; two steps change little.
"""

from tempfile import mkdtemp

import numpy as np
import torch
from trl import GRPOConfig, GRPOTrainer

from opera_agents.vlm.call_warm_start import collate_calls, draw_calls
from opera_agents.vlm.data import make_dataset
from opera_agents.vlm.environment import FACTOR_NAMES, RestorationWorld
from opera_agents.vlm.tiny import tiny_model, tiny_processor
from opera_env.answer import TurnGrammar
from opera_env.data import bundled
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox

PROMPT = "Restore the photograph: call apply_tool, undo, finish."
toolbox, source, rng = Toolbox.load("lite"), bundled(canvas=64), np.random.default_rng(0)
grammar = TurnGrammar(toolbox.names, source.degradations, max_tools=2)
world = RestorationWorld(source.make, PlanScorer(toolbox, "classic", cache=PrefixCache()), grammar)

# The form of calls: the model imitates conversations that apply a tool for each degradation, and finish.
samples = [source.make(source.draw(rng)) for _ in range(4)]
conversations = [draw_calls(world, sample, PROMPT, rng) for sample in samples]
texts = [conversation.text for conversation in conversations]
processor = tiny_processor(toolbox, [PROMPT, *texts], calls_functions=True)
model = tiny_model(processor, hidden_size=64, num_layers=1)
optimizer, batch = torch.optim.AdamW(model.parameters(), 5e-3), collate_calls(processor, conversations)
for _ in range(100):
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print(f"loss of the imitation: {loss.item():.2f}")

trainer = GRPOTrainer(
    model=model,
    args=GRPOConfig(
        output_dir=mkdtemp(),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=256,
        max_tool_calling_iterations=4,
        reward_weights=[0.0] * len(FACTOR_NAMES),
        remove_unused_columns=False,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        logging_steps=1,
    ),
    train_dataset=make_dataset(source, PROMPT, 16, seed=0),
    processing_class=processor,
    reward_funcs=world.factor_functions(),
    environment_factory=world.make_environment,
)
trainer.train()
for entry in trainer.state.log_history[:2]:
    print({name: round(entry[f"rewards/{name}/mean"], 2) for name in FACTOR_NAMES})
