/* waiting - room: queue (queued). See waiting.h. */
#include "waiting.h"

#define SLICE_MS SECOND_MS     /* what the store does in slices goes on after this where nothing else does */

void wait_for_store(struct store *store, wall_ms_t handed, wall_ms_t now, bool claimed, struct turn *turn) {
	wall_ms_t wake = store_next_wake(store, handed);
	bool slices = wake <= handed;
	if (store_dirty(store) || store_has_worked(store) || (slices && claimed) || (!slices && wake <= now))
		turn_until(turn, turn->now);
	else if (slices)
		turn_until(turn, deadline_in(turn->now, SLICE_MS));
	else if (wake != UINT64_MAX)
		turn_until(turn, deadline_in(turn->now, wake - now));
}
