"""A custom tool: any function, module, TorchScript file or checkpoint from RGB to RGB.

A tool that is added by the name of its code can be saved, and loaded wherever that code can be imported.
"""

from tempfile import TemporaryDirectory

import gymnasium as gym
from torch.nn.functional import avg_pool2d

from opera_env.tools import Toolbox

toolbox = Toolbox.load("lite")
toolbox.add("mine.blur", lambda image: avg_pool2d(image, 3, 1, 1), degradations=["noise"])

env = gym.make("opera_env:OPERA-RestoreStepwise-v0", toolbox=toolbox, reward="classic")
env.reset(seed=0)
_, reward, *_ = env.step(len(toolbox))  # actions are numbered in the order of the tools; 0 stops
print(f"{toolbox.names[-1]} gained {reward:+.2f}")

own = Toolbox.load("lite").subset(["unet.denoise"])
own.add("mine.average", "torch.nn:AvgPool2d", options={"kernel_size": 3, "stride": 1, "padding": 1})
with TemporaryDirectory() as folder:
    own.save(folder)
    loaded = Toolbox.load(folder, trust_code=True)  # loading imports the code that the folder names
print(f"saved and loaded: {', '.join(loaded.names)}")
