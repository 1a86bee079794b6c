/* grants - tlsd's room: the signatures that are owed. See grants.h. */
#include "grants.h"

#include <sys/mman.h>

bool grants_make(struct grants *g, size_t count)
{
	void *at = mmap(NULL, count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*g = (struct grants){ .owed = at != MAP_FAILED ? at : NULL, .count = at != MAP_FAILED ? count : 0 };
	return at != MAP_FAILED;
}

bool grants_hide(const struct grants *g)
{
	return madvise((void *)g->owed, g->count, MADV_DONTFORK) == 0;
}

void grants_drop(struct grants *g)
{
	if (g->owed != NULL)
		munmap((void *)g->owed, g->count);
	*g = (struct grants){ 0 };
}

void grants_give(const struct grants *g, size_t place)
{
	atomic_store(&g->owed[place], 1);
}

bool grants_owed(const struct grants *g, size_t place)
{
	return atomic_load(&g->owed[place]) == 1;
}

bool grants_take(const struct grants *g, size_t place)
{
	return atomic_exchange(&g->owed[place], 0) == 1;
}
