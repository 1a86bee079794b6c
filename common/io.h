/*
 * io - the few ways tappal touches descriptors. All opens here are O_CLOEXEC | O_NOFOLLOW and check with
 * fstat what they got. Every function returns -1 (or false) with errno set on failure; EINTR is retried
 * inside, except where a function takes a deadline.
 */
#ifndef COMMON_IO_H
#define COMMON_IO_H

#include <sys/types.h>
#include "bytes.h"
#include "clock.h"

/* Whole writes and reads. Block on a blocking descriptor. -1 with errno; io_read_full returns what it got
 * before the end of file (maybe less than n). */
int io_write_full(int fd, const void *data, size_t n);
int io_pwrite_full(int fd, const void *data, size_t n, uint64_t offset);
ssize_t io_read_full(int fd, void *data, size_t n);
ssize_t io_pread_full(int fd, void *data, size_t n, uint64_t offset);

/* Read until end of file or `out` is full: 0, or -1 (EFBIG when out's ceiling was reached and more came, ENOMEM). */
int io_slurp(int fd, struct str *out);

/* Open a regular file under dirfd (AT_FDCWD for the working directory) for reading; refuses (EINVAL) what is not a regular file. */
int io_open_regular(int dirfd, const char *name);

/* The file of this descriptor once more, for reading alone, from its beginning. */
int io_open_again(int fd);

/* Open one end of a fifo; EINVAL when it is no fifo. Both ends are O_NONBLOCK.
 * Reading: poll(2) stays silent until a first writer comes (read(2) without a writer gives 0, so poll first). Once the last writer
 * has left, reads give end of file and poll says POLLHUP without end until the next one: a reader whose writers come and go opens
 * the write end, too, and keeps it. Writing: ENXIO when nobody reads. */
int io_open_fifo_read(int dirfd, const char *name);
int io_open_fifo_write(int dirfd, const char *name);

int io_sync_dir(int dirfd, const char *name);   /* opens, fsyncs and closes the directory `name` under dirfd */
int io_set_nonblocking(int fd, bool on);
int io_set_cloexec(int fd, bool on);

/* Close what is open, of a descriptor from which nothing is lost by it: *fd is -1 then, as it may be before. errno stays as it was. */
void io_close(int *fd);

/* Close all descriptors from `first` on but `spared` (-1: none). False: errno. */
bool io_close_from(int first, int spared);

/* Wait until fd is readable (writable) or the deadline passes: 1 ready (or error/hangup pending), 0 deadline, -1 errno. */
int io_wait_readable(int fd, deadline_t deadline);
int io_wait_writable(int fd, deadline_t deadline);

/* Read/write a nonblocking descriptor with a deadline. io_read_some: >0 octets, 0 end of file, -1 (ETIMEDOUT at the deadline).
 * io_write_by: 0 all written, -1. */
ssize_t io_read_some(int fd, void *data, size_t n, deadline_t deadline);
int io_write_by(int fd, const void *data, size_t n, deadline_t deadline);

/* Signals as octets on a pipe. Returns the read end (nonblocking, cloexec) on which the signal's number
 * appears as one octet for each signal of the 0-terminated list; -1 errno. Once a process. */
int io_signal_pipe(const int *signals);

/* Raise the soft limit of descriptors to `wanted`, or as far as the hard limit lets it; never lower it. */
void io_want_files(size_t wanted);

#endif
