"""The queue of requests that wait for a decision, indexed by GPU count, model and server."""

from heapq import heappop, heappush

from sllmcore.cluster.request_state import RequestState
from sllmcore.controller.heap_pruning import prune_heap

ANY_SERVER = ""


class PendingQueue:
    """The waiting requests. A request is *parked* if it waits for GPUs of particular servers.

    Heap entries of requests that have left are removed when they reach the top or are many.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, RequestState] = {}
        self._by_gpus: dict[int, list[tuple[int, str]]] = {}  # heaps of (arrival index, request id)
        self._by_model: dict[str, list[tuple[int, str]]] = {}
        self._parked: dict[str, dict[str, RequestState]] = {}  # by server id and request id
        self._parked_at: dict[str, tuple[str, ...]] = {}  # server ids by request id
        self._parked_of: dict[str, dict[str, RequestState]] = {}  # by model and request id

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request_state: RequestState, num_gpus: int) -> None:
        """Let a request wait for GPUs of any server; its model needs `num_gpus`."""
        request_id = request_state.request.id
        if self._enter(request_state) or request_id in self._parked_at:
            self._unpark(request_state)
            heap = self._by_gpus.setdefault(num_gpus, [])
            heappush(heap, (request_state.arrival_index, request_id))
            prune_heap(heap, len(self._waiting), self._is_unparked)

    def park(self, request_state: RequestState, server_ids: tuple[str, ...]) -> None:
        """Let a request wait until GPUs of these servers, or of `ANY_SERVER`, are available."""
        self._enter(request_state)
        self._unpark(request_state)
        for server_id in server_ids:
            self._parked.setdefault(server_id, {})[request_state.request.id] = request_state
        self._parked_at[request_state.request.id] = server_ids
        self._parked_of.setdefault(request_state.request.model, {})[request_state.request.id] = (
            request_state
        )

    def remove(self, request_state: RequestState) -> None:
        """Remove a request; nothing happens if it does not wait."""
        if self._waiting.pop(request_state.request.id, None) is not None:
            self._unpark(request_state)

    def parked(self, server_id: str) -> list[RequestState]:
        """Return the requests parked at a server, in the order in which they were parked."""
        return list(self._parked.get(server_id, {}).values())

    def parked_of(self, model: str) -> list[RequestState]:
        """Return the parked requests for a model, in the order in which they were parked."""
        return list(self._parked_of.get(model, {}).values())

    def oldest(self, below_gpus: int | None) -> RequestState | None:
        """Return the oldest request that is not parked and needs fewer than `below_gpus` GPUs."""
        best: tuple[int, str] | None = None
        for num_gpus, heap in self._by_gpus.items():
            if below_gpus is not None and num_gpus >= below_gpus:
                continue
            while heap and not self._is_unparked(heap[0]):
                heappop(heap)
            if heap and (best is None or heap[0] < best):
                best = heap[0]
        return None if best is None else self._waiting[best[1]]

    def oldest_of(self, model: str) -> RequestState | None:
        """Return the oldest request for a model, parked or not."""
        heap = self._by_model.get(model)
        while heap and not self._is_waiting(heap[0]):
            heappop(heap)
        return self._waiting[heap[0][1]] if heap else None

    def of_model(self, model: str) -> list[RequestState]:
        """Return all requests for a model, oldest first."""
        request_states = [
            request_state
            for request_state in self._waiting.values()
            if request_state.request.model == model
        ]
        return sorted(request_states, key=lambda request_state: request_state.arrival_index)

    def _enter(self, request_state: RequestState) -> bool:
        request_id = request_state.request.id
        if request_id in self._waiting:
            return False
        self._waiting[request_id] = request_state
        heap = self._by_model.setdefault(request_state.request.model, [])
        heappush(heap, (request_state.arrival_index, request_id))
        prune_heap(heap, len(self._waiting), self._is_waiting)
        return True

    def _unpark(self, request_state: RequestState) -> None:
        request_id, model = request_state.request.id, request_state.request.model
        if request_id not in self._parked_at:
            return
        for server_id in self._parked_at.pop(request_id):
            _drop(self._parked, server_id, request_id)
        _drop(self._parked_of, model, request_id)

    def _is_waiting(self, entry: tuple[int, str]) -> bool:
        return entry[1] in self._waiting

    def _is_unparked(self, entry: tuple[int, str]) -> bool:
        return entry[1] in self._waiting and entry[1] not in self._parked_at


def _drop(parked: dict[str, dict[str, RequestState]], key: str, request_id: str) -> None:
    del parked[key][request_id]
    if not parked[key]:
        del parked[key]
