"""Records the factors of the learning rate of transformers' and torch's schedules over whole runs."""
import torch
import transformers

from common import GOLDEN, write_json

STEPS, WARMUP = 37, 5
WSD = dict(num_warmup_steps=WARMUP, num_stable_steps=STEPS - WARMUP - 8, num_decay_steps=8, decay_type="linear")
SCHEDULES = {
    "constant": lambda o: transformers.get_constant_schedule_with_warmup(o, WARMUP),
    "linear": lambda o: transformers.get_linear_schedule_with_warmup(o, WARMUP, STEPS),
    "cosine": lambda o: transformers.get_cosine_schedule_with_warmup(o, WARMUP, STEPS),
    "cosine-minimum": lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(o, WARMUP, STEPS, min_lr_rate=0.1),
    "wsd": lambda o: transformers.get_wsd_schedule(o, **WSD),
    "wsd-minimum": lambda o: transformers.get_wsd_schedule(o, **WSD, min_lr_ratio=0.2),
    "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=STEPS, cycle_momentum=False),
}


def factors(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer)
    found = []
    for step in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < STEPS:
            schedule.step()
    return found


if __name__ == "__main__":
    write_json(GOLDEN / "schedules.json", {"steps": STEPS, "warmup": WARMUP, **{name: factors(make) for name, make in SCHEDULES.items()}})
