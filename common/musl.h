/*
 * musl - what our sources ask of the C library and musl 1.2 does not have. Put before every source by the static build (etc/static.mk), and by
 * nothing else.
 */
#ifndef COMMON_MUSL_H
#define COMMON_MUSL_H

typedef int __rlimit_resource_t;

/* close_range(2). */
int close_range(unsigned first, unsigned last, int flags);

/* mallopt(3): musl's allocator has nothing to set. Always 0, which says so. */
#define M_MMAP_THRESHOLD (-3)
#define M_TOP_PAD        (-2)
int mallopt(int which, int value);

#endif
