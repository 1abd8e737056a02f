# Trains everything that ships, stage by stage:
#     make train IMAGES="bsds500/train photos" VAL=bsds500/val
# runs this file with two processes side by side. An interrupted run resumes with the same command: finished
# stages are left out, and every trainer resumes from its last checkpoint. QUICK=1 runs all stages at toy size.
# `make ship` with the same variables then copies the results into the packages.

OUT    ?= runs/train
PYTHON ?= .venv/bin/python
QUICK  ?=

ifndef IMAGES
$(error name folders of clean photographs, such as IMAGES="bsds500/train photos")
endif
ifndef VAL
$(error name a folder of clean photographs for validation, such as VAL=bsds500/val)
endif

.PHONY: all
.DELETE_ON_ERROR:

# $(call stage,NAME,COMMAND) runs a command as a stage, and $(call pick,FULL,TOY) chooses its size.
stage = @$(PYTHON) scripts/train_stage.py $(OUT) $(1) -- $(PYTHON) -m $(2)
pick  = $(if $(QUICK),$(2),$(1))
comma := ,
space := $() $()
DATA  = --images $(IMAGES) --val $(VAL)
D    := $(OUT)/done

LITE      := $(OUT)/toolboxes/lite
ADAPTED   := $(OUT)/toolboxes/lite-adapted
COTRAINED := $(OUT)/toolboxes/lite-cotrained
FIRST_PLANNER := $(OUT)/planner-first
PLANNER   := $(OUT)/planner
DETECTOR  := $(OUT)/detector/detector.safetensors

POOLS := lite lite-adapted lite-cotrained

all: $(addprefix $D/,critic vlm experience see plan-report execute execute-control execute-chains study-table study-figures) $(POOLS:%=$D/card-%)
	@$(PYTHON) scripts/train_stage.py $(OUT)

# `make train STAGES=real` trains what is for photographs with real damage.
.PHONY: real
real: $(addprefix $D/,measure-real real-planner real-critic)

# ---- the pools of specialists: sixteen tools each ----------------------------------------------------------

FIRST := unet.denoise nafnet.denoise_25
LATER := unet.denoise_15 unet.denoise_25 unet.denoise_50 nafnet.denoise_15 nafnet.denoise_50
OTHER := nafnet.derain unet.derain unet.dehaze unet.defocus_deblur nafnet.defocus_deblur unet.motion_deblur \
	unet.super_resolution unet.super_resolution_lpips unet.dejpeg

define pool
$(addprefix $D/$(1).,$(FIRST) $(LATER) $(OTHER)): $D/$(1).%:
	$$(call stage,$(1).$$*,opera_env.cli tools train $$* --pool $(1) $$(DATA) --out $(OUT)/$(1) \
		$$(call pick,,--steps 4 --val-every 4 --val-side 32))
$(addprefix $D/$(1).unet.,denoise_15 denoise_25 denoise_50): $D/$(1).unet.denoise
$(addprefix $D/$(1).nafnet.,denoise_15 denoise_50): $D/$(1).nafnet.denoise_25

$D/pack-$(1): $(addprefix $D/$(1).,$(FIRST) $(LATER) $(OTHER))
	$$(call stage,pack-$(1),opera_env.cli tools pack --pool $(1) --runs $(OUT)/$(1) --out $(OUT)/toolboxes/$(1))
$D/measure-$(1): $D/pack-$(1)
	$$(call stage,measure-$(1),opera_env.cli tools measure $(OUT)/toolboxes/$(1) --images $(VAL) \
		$$(call pick,,--side 32))
endef
$(eval $(call pool,lite))
$(eval $(call pool,lite-adapted))

# One network for all recipes, to compare agents with. It does not ship: `make train STAGES=all-in-one`.
.PHONY: all-in-one
all-in-one: $D/measure-all-in-one
$D/all-in-one:
	$(call stage,all-in-one,opera_env.cli tools train unet.all_in_one --pool all-in-one $(DATA) \
		--out $(OUT)/all-in-one $(call pick,--val-side 256,--steps 4 --val-every 4 --val-side 64))
$D/pack-all-in-one: $D/all-in-one
	$(call stage,pack-all-in-one,opera_env.cli tools pack --pool all-in-one --runs $(OUT)/all-in-one \
		--out $(OUT)/toolboxes/all-in-one)
$D/measure-all-in-one: $D/pack-all-in-one
	$(call stage,measure-all-in-one,opera_env.cli tools measure $(OUT)/toolboxes/all-in-one --images $(VAL) \
		$(call pick,,--side 32))

# ---- what observes: the detector, whose encoder all agents start from, and the critic ----------------------

$D/detector:
	$(call stage,detector,opera_agents.detector.train $(DATA) --out $(OUT)/detector \
		$(call pick,--steps 16000,--steps 4 --val-every 4 --val-count 16 --calibration-count 8 \
		--crop-sizes 64 --batch-size 4))
$D/critic: $D/detector $D/pack-lite
	$(call stage,critic,opera_agents.critic.train $(DATA) --toolbox $(LITE) --encoder $(DETECTOR) \
		--out $(OUT)/critic $(call pick,,--shards 1 --samples 4 --steps 4 --val-count 4 --val-every 4))

# ---- plans: constant ones for each recipe, and the planner's, from a table of rewards ----------------------

TOY_GRPO := --updates 2 --batch-size 2 --group-size 2 --val-count 4

$D/recipe-best: $D/pack-lite
	$(call stage,recipe-best,opera_baselines.fit_recipe_best --images $(firstword $(IMAGES)) --toolbox $(LITE) \
		--out $(OUT)/recipe_best.json $(call pick,,--images-per-recipe 1 --beam-width 1 --max-tools 2))
$D/experience: $D/pack-lite
	$(call stage,experience,opera_env.cli fit-experience --images $(firstword $(IMAGES)) --toolbox $(LITE) \
		--n $(call pick,8,1) --resume --force --out $(OUT)/experience.json)
$D/table: $D/pack-lite
	$(call stage,table,opera_agents.planner.reward_table --images $(IMAGES) --toolbox $(LITE) \
		--out $(OUT)/table $(call pick,,--shards 2 --samples 3 --candidates 6 --refined 2))
$D/planner-first: $D/table $D/detector
	$(call stage,planner-first,opera_agents.planner.train $(DATA) --toolbox $(LITE) --table $(OUT)/table \
		--initial-weights $(DETECTOR) --out $(FIRST_PLANNER) --threads 1 --table-fraction 0.25 \
		$(call pick,--updates 480 --lr 2e-4 --ent-coef 0.01,--value-epochs 2 --imitation-steps 2 $(TOY_GRPO)))
# Then every tool costs something, so that tools that change nothing are left out.
COST := --tool-cost 0.03
$D/planner: $D/planner-first
	$(call stage,planner,opera_agents.planner.train $(DATA) --toolbox $(LITE) \
		--initial-weights $(FIRST_PLANNER)/planner.safetensors --out $(PLANNER) --threads 1 $(COST) \
		$(call pick,--updates 120 --lr 1e-4 --ent-coef 0.003,$(TOY_GRPO)))
$D/ppo: $D/planner-first
	$(call stage,ppo,opera_agents.ppo.train $(DATA) --toolbox $(LITE) --planner $(FIRST_PLANNER) \
		--encoder $(DETECTOR) --freeze-encoder --out $(OUT)/ppo --threads 1 $(call pick,--total-timesteps 49152,\
		--warm-start-steps 2 --total-timesteps 16 --num-envs 4 --n-steps 4 --batch-size 8 --val-count 4))

# ---- the vision-language model ------------------------------------------------------------------------------

# It sees with the planner's encoder, and begins with the planner's plans.
$D/vlm-warm: $D/planner
	$(call stage,vlm-warm,opera_agents.vlm.warm_start $(DATA) --toolbox $(LITE) --planner $(PLANNER) \
		--encoder $(PLANNER)/planner.safetensors --out $(OUT)/vlm-warm --threads 1 \
		$(call pick,--steps 1000 --lr 1.5e-3,--steps 2 --batch-size 2 --val-count 4))
$D/vlm: $D/vlm-warm
	$(call stage,vlm,opera_agents.vlm.grpo --config agents/opera_agents/vlm/presets/tiny.yaml \
		--model_name_or_path $(OUT)/vlm-warm/model $(DATA) --toolbox $(LITE) --output_dir $(OUT)/vlm \
		$(call pick,--learning_rate 1e-4 --per_device_train_batch_size 128 --max_steps 200,--max_steps 1 \
		--per_device_train_batch_size 8 --val_count 4 --max_completion_length 8))

# Turn by turn: it calls tools, sees their results, and may take them back. It does not ship: `make train STAGES=turns`.
# The second one has no planner to learn from, and begins with plausible plans.
.PHONY: turns
turns: $D/vlm-turns $D/vlm-turns-alone
$D/vlm-turns-warm: TEACHER := --planner $(PLANNER)
$D/vlm-turns-warm $D/vlm-turns-alone-warm: $D/%: $D/planner
	$(call stage,$*,opera_agents.vlm.warm_start $(DATA) --toolbox $(LITE) --answer-kind turns \
		$(TEACHER) --encoder $(PLANNER)/planner.safetensors --out $(OUT)/$* --threads 1 \
		$(call pick,--steps 400 --lr 1.5e-3,--steps 2 --batch-size 2 --val-count 4))
$D/vlm-turns $D/vlm-turns-alone: $D/%: $D/%-warm
	$(call stage,$*,opera_agents.vlm.grpo --config agents/opera_agents/vlm/presets/tiny-turns.yaml \
		--model_name_or_path $(OUT)/$*-warm/model $(DATA) --toolbox $(LITE) --threads 1 \
		--output_dir $(OUT)/$* $(call pick,--learning_rate 1e-4 --max_steps 100,--max_steps 1 \
		--per_device_train_batch_size 8 --val_count 4 --max_completion_length 16))

# ---- the execution update: tools adapted to the benchmark one by one, then trained on in three ways: under the
# planner's plans, under random plans, and alone again with larger batches, which takes as much computation ----

EPOCHS := $(call pick,--threads 1,--threads 1 --steps-per-epoch 2 --batch-size 4 --val-count 4)
RATES  := --rehearsal-prob 0.15 --misuse-prob 0.1

$D/adapt: $D/pack-lite
	$(call stage,adapt,opera_agents.cotraining.train $(DATA) --toolbox $(LITE) --agent matched --adapt-alone \
		$(RATES) --out $(OUT)/adapt $(EPOCHS) --epochs $(call pick,10,1))
$D/adapt-more: $D/adapt
	$(call stage,adapt-more,opera_agents.cotraining.train $(DATA) --toolbox $(OUT)/adapt/toolbox --agent matched \
		--adapt-alone $(RATES) --out $(OUT)/adapt-more $(EPOCHS) --epochs $(call pick,15,1) \
		$(call pick,--batch-size 40,))
$D/cotrain $D/cotrain-random: $D/%: $D/adapt $D/planner
	$(call stage,$*,opera_agents.cotraining.train $(DATA) --toolbox $(OUT)/adapt/toolbox \
		--agent planner:$(PLANNER) $(RATES) --tool-insertion-prob 0.1 --out $(OUT)/$* $(EPOCHS) \
		--epochs $(call pick,15,1) $(if $(findstring random,$*),--random-plan-prob 1))
# The planner on the adapted tools, with as many updates as planner-2 has on those that were trained in chains.
$D/planner-adapted: $D/adapt-more $D/planner
	$(call stage,planner-adapted,opera_agents.planner.train $(DATA) --toolbox $(OUT)/adapt-more/toolbox \
		--initial-weights $(PLANNER)/planner.safetensors --out $(OUT)/planner-adapted --threads 1 $(COST) \
		$(call pick,--updates 240 --lr 2e-4 --ent-coef 0.01,$(TOY_GRPO)))
$D/planner-2: $D/cotrain
	$(call stage,planner-2,opera_agents.planner.train $(DATA) --toolbox $(OUT)/cotrain/toolbox \
		--initial-weights $(PLANNER)/planner.safetensors --out $(OUT)/planner-2 --threads 1 $(COST) \
		$(call pick,--updates 240 --lr 2e-4 --ent-coef 0.01,$(TOY_GRPO)))
# Chains for the tools that were adapted for longer, under the planner that was tuned on them; its control is
# adaptation alone once more. Both get a planner that was tuned on them.
$D/cotrain-after: $D/planner-adapted
	$(call stage,cotrain-after,opera_agents.cotraining.train $(DATA) --toolbox $(OUT)/adapt-more/toolbox \
		--agent planner:$(OUT)/planner-adapted $(RATES) --tool-insertion-prob 0.1 --out $(OUT)/cotrain-after \
		$(EPOCHS) --epochs $(call pick,15,1))
$D/adapt-again: $D/adapt-more
	$(call stage,adapt-again,opera_agents.cotraining.train $(DATA) --toolbox $(OUT)/adapt-more/toolbox \
		--agent matched --adapt-alone $(RATES) --out $(OUT)/adapt-again $(EPOCHS) --epochs $(call pick,15,1) \
		$(call pick,--batch-size 40,))
$D/planner-cotrain-after $D/planner-adapt-again: $D/planner-%: $D/% $D/planner-adapted
	$(call stage,planner-$*,opera_agents.planner.train $(DATA) --toolbox $(OUT)/$*/toolbox \
		--initial-weights $(OUT)/planner-adapted/planner.safetensors --out $(OUT)/planner-$* --threads 1 $(COST) \
		$(call pick,--updates 120 --lr 1e-4 --ent-coef 0.003,$(TOY_GRPO)))
# The tools and the planner once more, each with the other as it is now.
$D/cotrain-again: $D/planner-cotrain-after
	$(call stage,cotrain-again,opera_agents.cotraining.train $(DATA) --toolbox $(OUT)/cotrain-after/toolbox \
		--agent planner:$(OUT)/planner-cotrain-after $(RATES) --tool-insertion-prob 0.1 --lr 2e-4 \
		--out $(OUT)/cotrain-again $(EPOCHS) --epochs $(call pick,15,1))
# The brightener stays as it was adapted alone: chains teach it to lift a night sky, and gain nothing by it.
$D/pack-lite-cotrained: $D/cotrain-again
	$(call stage,pack-lite-cotrained,scripts.exchange_tools $(OUT)/cotrain-again/toolbox \
		--tools brighten.gamma_correction --donor $(OUT)/adapt-more/toolbox --out $(COTRAINED))
$D/measure-lite-cotrained: $D/pack-lite-cotrained
	$(call stage,measure-lite-cotrained,opera_env.cli tools measure $(COTRAINED) --images $(VAL) \
		$(call pick,,--side 32))
$D/planner-lite-cotrained: $D/measure-lite-cotrained
	$(call stage,planner-lite-cotrained,opera_agents.planner.train $(DATA) --toolbox $(COTRAINED) \
		--initial-weights $(OUT)/planner-cotrain-after/planner.safetensors --out $(OUT)/planner-lite-cotrained --threads 1 \
		$(COST) $(call pick,--updates 120 --lr 1e-4 --ent-coef 0.003,$(TOY_GRPO)))

# ---- real photographs: a pool of its own, what observes them, and a planner ----------------------------------

REAL      := $(OUT)/toolboxes/real
REAL_EYES := $(OUT)/real-detector/detector.safetensors
REAL_DATA  = --images $(IMAGES:%=real:%) --val real:$(VAL)
REAL_TOOLS := unet.denoise nafnet.denoise nafnet.derain unet.dehaze unet.defocus_deblur unet.motion_deblur \
	unet.super_resolution unet.sharpen unet.dejpeg unet.deprocess expose.light

$(REAL_TOOLS:%=$D/real.%): $D/real.%: $D/pack-lite
	$(call stage,real.$*,opera_env.cli tools train $* --pool real --initial-toolbox $(LITE) $(DATA) \
		--out $(OUT)/real $(call pick,,--steps 4 --val-every 4 --val-side 32))
$D/pack-real: $(REAL_TOOLS:%=$D/real.%)
	$(call stage,pack-real,opera_env.cli tools pack --pool real --runs $(OUT)/real --out $(REAL))
$D/measure-real: $D/pack-real
	$(call stage,measure-real,opera_env.cli tools measure $(REAL) --images $(VAL) \
		--degradations opera_env.degradations.real:REAL_DEGRADATIONS $(call pick,,--side 32))
$D/real-detector:
	$(call stage,real-detector,opera_agents.detector.train $(REAL_DATA) --encoder windows-1 \
		--out $(OUT)/real-detector $(call pick,--steps 12000,--steps 4 --val-every 4 --val-count 16 \
		--calibration-count 8 --crop-sizes 64 --batch-size 4))
$D/real-critic: $D/real-detector $D/pack-real
	$(call stage,real-critic,opera_agents.critic.train $(REAL_DATA) --toolbox $(REAL) --encoder $(REAL_EYES) \
		--out $(OUT)/real-critic $(call pick,,--shards 1 --samples 4 --steps 4 --val-count 4 --val-every 4))
$D/real-table: $D/pack-real
	$(call stage,real-table,opera_agents.planner.reward_table --images $(IMAGES:%=real:%) --toolbox $(REAL) \
		--out $(OUT)/real-table $(call pick,,--shards 2 --samples 3 --candidates 6 --refined 2))
$D/real-planner: $D/real-table $D/real-detector
	$(call stage,real-planner,opera_agents.planner.train $(REAL_DATA) --toolbox $(REAL) --encoder windows-1 \
		--table $(OUT)/real-table --initial-weights $(REAL_EYES) --out $(OUT)/real-planner --threads 1 \
		--table-fraction 0.25 $(COST) \
		$(call pick,--updates 480 --lr 2e-4 --ent-coef 0.01,--value-epochs 2 --imitation-steps 2 $(TOY_GRPO)))

# ---- what the documentation reports: tables in log/NAME.log, figures and JSON in reports ---------------------

REPORTS := $(OUT)/reports

define study
$D/study-$(1): $D/pack-$(1)
	@mkdir -p $(REPORTS)
	$$(call stage,study-$(1),opera_env.cli study --toolbox $(OUT)/toolboxes/$(1) --images $(VAL) \
		--n $$(call pick,80,16 --max-length 3) --resume --force --json $(REPORTS)/study-$(1).json)
endef
$(foreach pool,$(POOLS),$(eval $(call study,$(pool))))

STUDIES := $(foreach pool,$(POOLS),$(pool)=$(REPORTS)/study-$(pool).json)
$D/study-table: $(POOLS:%=$D/study-%)
	$(call stage,study-table,scripts.study_table $(STUDIES))
$D/study-figures: $(POOLS:%=$D/study-%)
	$(call stage,study-figures,scripts.study_figures $(STUDIES) --out $(REPORTS)/study.png)
$(POOLS:%=$D/card-%): $D/card-%: $D/measure-%
	$(call stage,card-$*,opera_env.cli tools card --toolbox $(OUT)/toolboxes/$* --markdown \
		--figure $(REPORTS)/gains-$*.png)

$D/see: $D/detector
	@mkdir -p $(REPORTS)
	$(call stage,see,opera_agents.detector.evaluate --detector $(DETECTOR) --images $(VAL) \
		--n $(call pick,320,16) --json $(REPORTS)/detector.json)
REPORTED = untouched random fixed_order detect:$(DETECTOR) matched recipe_best:$(OUT)/recipe_best.json \
	greedy-blind ppo:$(OUT)/ppo planner:$(PLANNER)

$D/plan: $D/planner $D/ppo $D/recipe-best
	@mkdir -p $(REPORTS)
	$(call stage,plan,opera_env.cli compare --toolbox $(LITE) --images $(VAL) --n $(call pick,320,16) --seed 2 \
		--agents $(subst $(space),$(comma),$(strip $(REPORTED))) \
		--resume --force --no-sheet --json $(REPORTS)/plan.json)
$D/plan-report: $D/plan
	$(call stage,plan-report,scripts.agent_report $(REPORTS)/plan.jsonl --agent planner:$(PLANNER) --toolbox $(LITE))
# Pairs of tools and planner, as TOOLBOX=PLANNER.
EXECUTED := $(LITE)=$(PLANNER) $(foreach run,adapt adapt-more cotrain-random cotrain,$(OUT)/$(run)/toolbox=$(PLANNER)) \
	$(OUT)/adapt-more/toolbox=$(OUT)/planner-adapted $(OUT)/cotrain/toolbox=$(OUT)/planner-2 \
	$(OUT)/adapt-again/toolbox=$(OUT)/planner-adapt-again $(OUT)/cotrain-after/toolbox=$(OUT)/planner-cotrain-after \
	$(COTRAINED)=$(OUT)/planner-lite-cotrained
$D/execute: $(addprefix $D/,cotrain-random planner-adapted planner-2 planner-adapt-again planner-lite-cotrained)
	@mkdir -p $(REPORTS)
	$(call stage,execute,opera_agents.cotraining.evaluate --images $(VAL) --n $(call pick,384,16) --seed 2 \
		--toolboxes $(foreach pair,$(EXECUTED),$(firstword $(subst =, ,$(pair)))) \
		--agents $(foreach pair,$(EXECUTED),planner:$(lastword $(subst =, ,$(pair)))) \
		--tool-photographs $(call pick,40,4) --threads 1 --json $(REPORTS)/execute.json)
# Chains against adaptation alone, as many steps and each with a planner of its own; the same samples.
$D/execute-control: $D/planner-adapted $D/planner-2
	@mkdir -p $(REPORTS)
	$(call stage,execute-control,opera_agents.cotraining.evaluate --images $(VAL) --n $(call pick,384,16) --seed 2 \
		--toolboxes $(OUT)/adapt-more/toolbox $(OUT)/cotrain/toolbox --tool-photographs 0 --threads 1 \
		--agents planner:$(OUT)/planner-adapted planner:$(OUT)/planner-2 --json $(REPORTS)/execute-control.json)

# What chains add to tools that were adapted for longer, beside more adaptation alone; each with a planner of its own.
CONTINUED := adapt-more=planner-adapted adapt-again=planner-adapt-again cotrain-after=planner-cotrain-after
$D/execute-chains: $D/planner-adapt-again $D/planner-cotrain-after
	@mkdir -p $(REPORTS)
	$(call stage,execute-chains,opera_agents.cotraining.evaluate --images $(VAL) --n $(call pick,384,16) --seed 2 \
		--toolboxes $(foreach pair,$(CONTINUED),$(OUT)/$(firstword $(subst =, ,$(pair)))/toolbox) \
		--agents $(foreach pair,$(CONTINUED),planner:$(OUT)/$(lastword $(subst =, ,$(pair)))) \
		--tool-photographs 0 --threads 1 --json $(REPORTS)/execute-chains.json)

# ---- the packages: `make ship` replaces what they ship by what was trained ----------------------------------

SHIP_TO ?= .
WEIGHTS := $(SHIP_TO)/opera_env/tools/weights
AGENTS  := $(SHIP_TO)/agents/opera_agents

.PHONY: ship
ship: all
	for pool in lite lite-adapted lite-cotrained; do \
		mkdir -p $(WEIGHTS)/$$pool && rm -f $(WEIGHTS)/$$pool/*.safetensors && \
		cp $(OUT)/toolboxes/$$pool/*.safetensors $(OUT)/toolboxes/$$pool/toolbox.json $(WEIGHTS)/$$pool || exit 1; \
	done
	mkdir -p $(SHIP_TO)/baselines/opera_baselines $(SHIP_TO)/opera_env/metrics \
		$(AGENTS)/planner/weights/lite-cotrained $(AGENTS)/ppo/weights $(AGENTS)/vlm/weights
	cp $(DETECTOR) $(SHIP_TO)/baselines/opera_baselines/detect.safetensors
	cp $(OUT)/recipe_best.json $(OUT)/experience.json $(SHIP_TO)/baselines/opera_baselines
	cp $(OUT)/critic/critic.safetensors $(SHIP_TO)/opera_env/metrics
	cp $(PLANNER)/planner.safetensors $(PLANNER)/planner.json $(AGENTS)/planner/weights
	cp $(addprefix $(OUT)/planner-lite-cotrained/planner.,safetensors json) $(AGENTS)/planner/weights/lite-cotrained
	cp $(addprefix $(OUT)/ppo/agent.,safetensors json) $(AGENTS)/ppo/weights
	$(PYTHON) scripts/halve_model.py $(OUT)/vlm/model $(AGENTS)/vlm/weights
