"""SGLang's scheduler with its EAGLE worker in this process, turned by hand one iteration at a time.

An iteration is the body of `Scheduler.event_loop_overlap`, so allocation, batching, the relay between rounds, the waits
of the overlap schedule and the handling of results are those of a server; only the sockets stay silent. Once all
requests decode, an iteration is one round: draft, verify, draft-extend. Read in 0.5.13.post1 (`managers/scheduler.py`,
`speculative/eagle_worker_v2.py`).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.entrypoints.engine import _set_envs_and_config
from sglang.srt.layers.moe.utils import speculative_moe_a2a_backend_context, speculative_moe_backend_context
from sglang.srt.managers.io_struct import AbortReq, TokenizedGenerateReqInput
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.model_executor import model_runner
from sglang.srt.model_executor.cuda_graph_runner import CudaGraphRunner
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import PortArgs, prepare_server_args
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
from sglang.srt.utils import DynamicGradMode, is_cuda

from sglang_glm52.bench.batch_runner import BatchRunner
from sglang_glm52.bench.shard_engine import SeededModelRunner, model_class
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.errors import HostMismatchError

SPARE_ITERATIONS = 16  # beyond one for each prefill chunk, until a batch decodes or the scheduler is idle


class RoundEngine:
    """One scheduler with target and draft model. Call load_plugins() before building one.

    Args:
        argv: server flags with those of the first Speculation; `--load-format dummy` and one GPU are assumed.
        package: where both model classes must come from.

    Raises:
        HostMismatchError: SGLang would serve target or draft with a class from elsewhere.
    """

    def __init__(self, argv: Sequence[str], package: str) -> None:
        args = prepare_server_args(list(argv))
        _set_envs_and_config(args)
        self.model_class = model_class(ModelConfig.from_server_args(args), package)
        with _seeded_runners():
            self.scheduler = Scheduler(args, PortArgs.init_new(args), 0, 0, 0, 0, 0, 0, None)
        self.args = args
        self.target, self.draft = self.worker.target_worker.model_runner, self.worker.draft_worker.draft_runner
        self.draft_class = _class_path(self.draft.model)
        if not self.draft_class.startswith(f"{package}."):
            raise HostMismatchError(f"SGLang drafts with {self.draft_class}, expected a class of {package}")
        self.result: GenerationBatchResult | None = None  # of the last iteration, perhaps still being computed
        self._start_loop()

    @property
    def worker(self):
        """The EAGLEWorkerV2."""
        return self.scheduler.draft_worker

    @property
    def stream(self):
        """Where the rounds' device work runs."""
        return self.scheduler.forward_stream

    @property
    def vocab_size(self) -> int:
        return self.target.model_config.vocab_size

    def captured_batches(self) -> list[int]:
        """Batch sizes with CUDA graphs for draft and verify; one step drafts without a forward pass."""
        runners = [self.target.graph_runner]
        if self.worker.speculative_num_steps > 1:
            runners.append(self.worker.draft_worker.cuda_graph_runner)
        sizes = [set(runner.capture_bs) if runner else set() for runner in runners]
        return sorted(set.intersection(*sizes))

    def configure(self, speculation: Speculation) -> None:
        """Change steps and draft tokens of an idle scheduler, capturing their graphs: the host's adaptive speculation.

        The host keeps the draft model's own attention backend, which runs draft-extend. `dsa` has the number of draft
        tokens in it, so it is built again here.
        """
        if self.worker.speculative_num_steps == speculation.steps:
            return
        with torch.no_grad(), speculative_moe_backend_context(), speculative_moe_a2a_backend_context():
            state = self.worker.build_adaptive_runtime_state(speculation.steps, speculation.draft_tokens)
            self.worker.apply_runtime_state(state)
            self.draft.attn_backend = self.draft._get_attention_backend()

    def start(self, prompts: Sequence[array], max_new_tokens: int) -> None:
        """Prefill all prompts; the next iteration is a round of all of them.

        Raises:
            RuntimeError: they do not decode together, for want of KV slots for instance.
        """
        sampling = SamplingParams(temperature=0.0, max_new_tokens=max_new_tokens, ignore_eos=True)
        sampling.normalize(None)
        self._send([_request(f"bench-{i}", prompt, sampling) for i, prompt in enumerate(prompts)])
        chunks = sum(-(-len(prompt) // self.args.chunked_prefill_size) for prompt in prompts)
        for _ in range(chunks + SPARE_ITERATIONS):
            self.step()
            running, current = self.scheduler.running_batch, self.scheduler.cur_batch
            if current is running and running.batch_size() == len(prompts):
                return
        raise RuntimeError(
            f"{self.scheduler.running_batch.batch_size()} of {len(prompts)} requests decode after "
            f"{chunks + SPARE_ITERATIONS} iterations; the KV pool has {self.scheduler.max_total_num_tokens} slots"
        )

    def step(self) -> None:
        """One iteration."""
        scheduler = self.scheduler
        with DynamicGradMode(), scheduler.device_module.StreamContext(scheduler.schedule_stream):
            scheduler.process_input_requests(scheduler.request_receiver.recv_requests())
            if scheduler._war_barrier_enabled:
                scheduler.schedule_stream.wait_stream(scheduler.forward_stream)
            batch = scheduler.cur_batch = scheduler.get_next_batch_to_run()
            self.result = scheduler.run_batch(batch) if batch else None
            if batch:
                scheduler.result_queue.append((batch.copy(), self.result))
            if scheduler.last_batch:
                scheduler.process_batch_result(*scheduler.result_queue.popleft())
            scheduler.last_batch = batch

    def accepted(self) -> float:
        """Mean number of draft tokens accepted a round, over the running requests' rounds so far."""
        reqs = self.scheduler.running_batch.reqs
        return sum(req.spec_num_correct_drafts for req in reqs) / sum(req.spec_verify_ct for req in reqs)

    def stop(self) -> None:
        """Abort all requests and run until the scheduler is idle and its pools empty."""
        self._send([AbortReq(abort_all=True)])
        for _ in range(SPARE_ITERATIONS):
            self.step()
            if self.scheduler.is_fully_idle():
                self.scheduler.device_module.synchronize()
                self.scheduler.flush_cache(empty_cache=False)
                return
        raise RuntimeError(f"the scheduler is not idle {SPARE_ITERATIONS} iterations after all requests were aborted")

    @contextmanager
    def plain(self) -> Iterator[BatchRunner]:
        """The target model of an idle scheduler without speculation, its decode graphs captured for as long."""
        runner = self.target
        before = runner.spec_algorithm, runner.attn_backend, runner.graph_runner
        runner.spec_algorithm = SpeculativeAlgorithm.NONE
        try:
            with torch.no_grad():
                runner.attn_backend = runner._get_attention_backend(init_new_workspace=True)
                if not self.args.disable_cuda_graph:
                    runner.graph_runner = CudaGraphRunner(runner)
            yield BatchRunner(runner, self.args.chunked_prefill_size)
        finally:
            runner.spec_algorithm, runner.attn_backend, runner.graph_runner = before
            self.scheduler.flush_cache(empty_cache=False)

    def _send(self, messages: list) -> None:
        with DynamicGradMode():
            self.scheduler.process_input_requests(messages)

    def _start_loop(self) -> None:
        """What `Scheduler.run_event_loop` and the loop itself set up."""
        scheduler = self.scheduler
        scheduler.schedule_stream = scheduler.device_module.Stream(priority=0)
        if scheduler.device == "cpu":
            scheduler.schedule_stream.synchronize = lambda: None
        scheduler._war_barrier_enabled = is_cuda()
        scheduler.result_queue = deque()


@contextmanager
def _seeded_runners() -> Iterator[None]:
    """Let SGLang's workers build their model runners with seeded weights."""
    original = model_runner.ModelRunner
    model_runner.ModelRunner = SeededModelRunner
    try:
        yield
    finally:
        model_runner.ModelRunner = original


def _request(rid: str, prompt: array, sampling: SamplingParams) -> TokenizedGenerateReqInput:
    return TokenizedGenerateReqInput(
        rid=rid,
        input_text="",
        input_ids=prompt,
        mm_inputs=None,
        sampling_params=sampling,
        return_logprob=False,
        logprob_start_len=-1,
        top_logprobs_num=0,
        token_ids_logprob=[],
        stream=False,
    )


def _class_path(model: torch.nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"
