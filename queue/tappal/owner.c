/* owner - room: queue, the operator's own uid. See tappal.h. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/paths.h"
#include "tappal.h"

/* `queue check --repair` holds the lock as well. */
static bool is_queued(int pid)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool read = fgets(name, sizeof name, f) != NULL;
	fclose(f);
	return read && strcmp(name, "queued\n") == 0;
}

/* The lock's file is queued's alone, but the kernel tells everybody who holds which lock. */
int tool_queue_owner(void)
{
	char line[256];
	struct stat st;
	unsigned long inode;
	int pid, found = 0;
	FILE *locks = stat(SPOOL_LOCK, &st) == 0 ? fopen("/proc/locks", "re") : NULL;
	while (locks && found == 0 && fgets(line, sizeof line, locks))
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %*x:%*x:%lu", &pid, &inode) == 2 && inode == st.st_ino && is_queued(pid))
			found = pid;
	if (locks)
		fclose(locks);
	return found;
}
