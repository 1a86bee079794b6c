/*
 * musl - see musl.h. Room: common, in static programs only. The one place with a system call by number.
 */
#include "musl.h"

#include <sys/syscall.h>
#include <unistd.h>

int close_range(unsigned first, unsigned last, int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

int mallopt(int which, int value)
{
	(void)which;
	(void)value;
	return 0;
}
