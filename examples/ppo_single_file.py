"""Proximal policy optimisation in one file, in PyTorch, with masks. Needs the extra `rl`.

The policy scores each candidate set with one shared network, so that it works for any number of
sets. Algorithm: Schulman et al., "Proximal Policy Optimization Algorithms", 2017.

Run: python examples/ppo_single_file.py
"""

from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import emoc_tf  # noqa: F401, registers the environments


@dataclass
class Settings:
    """Of the training; those of the environment are keyword arguments of `main`."""

    total_timesteps: int = 240
    num_envs: int = 2
    num_steps: int = 12
    epochs: int = 4
    minibatches: int = 2
    learning_rate: float = 2.5e-3
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    seed: int = 0


class ActorCritic(nn.Module):
    """Scores of the sets, and the value of the state from the mean over the sets."""

    def __init__(self, features: int, progress: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features + progress, 32), nn.Tanh())
        self.score, self.value = nn.Linear(32, 1), nn.Linear(32, 1)

    def forward(self, observation: dict[str, torch.Tensor]) -> tuple[Categorical, torch.Tensor]:
        """Returns the distribution over the sets and the value, both for a batch."""
        features, mask = observation["set_features"], observation["action_mask"].bool()
        # Where the pool ran out no set is left; what is chosen there only starts the next episode.
        mask = mask | ~mask.any(dim=1, keepdim=True)
        progress = observation["progress"][:, None].expand(-1, features.shape[1], -1)
        hidden = self.body(torch.cat([features, progress], dim=2))
        scores = self.score(hidden)[..., 0].masked_fill(~mask, -1e9)
        return Categorical(logits=scores), self.value(hidden.mean(dim=1))[..., 0]


def tensors(observation: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Returns the observation as float tensors."""
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in observation.items()}


def estimate_advantages(
    rewards: Sequence[np.ndarray],
    values: Sequence[torch.Tensor],
    overs: Sequence[np.ndarray],
    following: torch.Tensor,
    settings: Settings,
) -> list[torch.Tensor]:
    """Generalised advantage estimation; nothing flows across an episode's end.

    Args:
        rewards: (num_envs,) of each step.
        values: (num_envs,) of the state before each step.
        overs: (num_envs,) bool, whether the step ended the episode.
        following: (num_envs,), the value of the state after the last step.
        settings: Discount and λ.
    """
    advantages: list[torch.Tensor] = []
    later = torch.zeros_like(following)
    for reward, value, over in zip(
        reversed(rewards), reversed(values), reversed(overs), strict=True
    ):
        going_on = torch.tensor(~over, dtype=torch.float32)
        delta = torch.tensor(reward, dtype=torch.float32) - value
        delta = delta + settings.discount * following * going_on
        later = delta + settings.discount * settings.gae_lambda * going_on * later
        advantages.insert(0, later)
        following = value
    return advantages


def main(settings: Settings | None = None, **environment) -> list[float]:
    """Trains and returns the reward of each finished episode.

    Args:
        settings: Of the training.
        **environment: Fields of `ExplorationConfig`.
    """
    s = settings or Settings()
    torch.manual_seed(s.seed)
    environment = {"num_candidate_sets": 20, "update_iterations": 20, **environment}
    envs = gym.make_vec(
        "emoc_tf/Digits-v0", num_envs=s.num_envs, vectorization_mode="sync", **environment
    )
    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    space = envs.single_observation_space
    agent = ActorCritic(space["set_features"].shape[1], space["progress"].shape[0])
    optimizer = torch.optim.Adam(agent.parameters(), lr=s.learning_rate, eps=1e-5)

    finished: list[float] = []
    observation, _ = envs.reset(seed=s.seed)
    starts = np.zeros(s.num_envs, bool)  # whether a step only starts the next episode
    for _ in range(s.total_timesteps // (s.num_envs * s.num_steps)):
        steps = []
        for _ in range(s.num_steps):
            seen = tensors(observation)
            with torch.no_grad():
                policy, value = agent(seen)
                action = policy.sample()
            observation, reward, terminated, truncated, info = envs.step(action.numpy())
            over = terminated | truncated
            steps.append((seen, action, policy.log_prob(action), value, reward, over, starts))
            starts = over
            finished += list(info["episode"]["r"][over]) if over.any() else []
        seen, actions, log_probs, values, rewards, overs, idle = zip(*steps, strict=True)

        with torch.no_grad():
            _, following = agent(tensors(observation))
        advantages = estimate_advantages(rewards, values, overs, following, s)
        used = torch.tensor(~np.concatenate(idle))
        seen = {key: torch.cat([part[key] for part in seen])[used] for key in seen[0]}
        actions, log_probs, values, advantages = (
            torch.cat(list(parts))[used] for parts in (actions, log_probs, values, advantages)
        )
        returns = advantages + values
        advantages = (advantages - advantages.mean()) / (advantages.std(unbiased=False) + 1e-8)

        for _ in range(s.epochs):
            for rows in torch.randperm(len(actions)).tensor_split(s.minibatches):
                policy, value = agent({key: part[rows] for key, part in seen.items()})
                ratio = (policy.log_prob(actions[rows]) - log_probs[rows]).exp()
                advantage = advantages[rows]
                clipped = ratio.clamp(1 - s.clip, 1 + s.clip)
                loss = (
                    -torch.min(advantage * ratio, advantage * clipped).mean()
                    + s.value_weight * (value - returns[rows]).square().mean() / 2
                    - s.entropy_weight * policy.entropy().mean()
                )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), s.max_grad_norm)
                optimizer.step()
        print(
            f"{len(finished)} episodes, mean reward of the last ten {np.mean(finished[-10:]):.3f}"
        )
    envs.close()
    return finished


if __name__ == "__main__":
    main()
