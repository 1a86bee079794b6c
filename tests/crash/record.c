/*
 * record - a file system of a few image files that writes down everything a disk would be told, in order.
 *
 *   record LOG MOUNTPOINT IMAGE...
 *
 * MOUNTPOINT gets the files disk0, disk1, ... (loop devices stand on them) and `mark`. LOG gets one event for each write, each write of
 * nothing but zeros, each flush of a disk, and each write to `mark` (what a client was told). Ends when MOUNTPOINT is unmounted.
 * It speaks the kernel's FUSE protocol (linux/fuse.h) itself, one request at a time: so the order of LOG is the order of the disks.
 *
 * An event: u8 kind ('W' 'Z' 'F' 'M'), u8 disk, u16 0, u32 length, u64 offset, then `length` octets for W and M.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISKS_MAX 4
#define WRITE_MAX (256u << 10)
#define BUFFER (WRITE_MAX + 8192u)
#define MARK_NODE (2u + DISKS_MAX)
#define FOREVER 1000000u

struct disk { int fd; uint64_t size; };

static struct disk disks[DISKS_MAX];
static unsigned disk_count;
static FILE *events;
static int fuse;

static _Noreturn void fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	fprintf(stderr, "record: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(errno));
	va_end(args);
	exit(111);
}

/* ---- the log ---- */

static void note(char kind, unsigned disk, uint64_t offset, const void *data, size_t length) {
	char head[16] = { kind, (char)disk };
	uint32_t octets = (uint32_t)length;
	memcpy(head + 4, &octets, 4);
	memcpy(head + 8, &offset, 8);
	if (fwrite(head, sizeof(head), 1, events) != 1 || (data && length > 0 && fwrite(data, length, 1, events) != 1))
		fail("cannot write the log");
	if (kind == 'M' && fflush(events) != 0)
		fail("cannot write the log");
}

static bool all_zero(const char *data, size_t n) {
	return n > 0 && data[0] == 0 && memcmp(data, data + 1, n - 1) == 0;
}

/* ---- answers ---- */

static void answer(const struct fuse_in_header *in, int error, const void *data, size_t n) {
	static char out[BUFFER];
	struct fuse_out_header head = { .len = (uint32_t)(sizeof(head) + n), .error = -error, .unique = in->unique };
	memcpy(out, &head, sizeof(head));
	if (n > 0)
		memcpy(out + sizeof(head), data, n);
	if (write(fuse, out, head.len) < 0 && errno != ENOENT)
		fail("cannot answer the kernel");
}

static bool is_disk(uint64_t node) {
	return node >= 2 && node < 2 + disk_count;
}

static struct fuse_attr attributes(uint64_t node) {
	struct fuse_attr a = { .ino = node, .nlink = 1, .blksize = 4096, .mode = S_IFREG | 0600 };
	if (node == FUSE_ROOT_ID)
		a.mode = S_IFDIR | 0755;
	if (node == MARK_NODE)
		a.mode = S_IFREG | 0666;
	if (is_disk(node)) {
		a.size = disks[node - 2].size;
		a.blocks = a.size / 512;
	}
	return a;
}

static void on_init(const struct fuse_in_header *in, const struct fuse_init_in *ask) {
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = ask->max_readahead,
		.flags = ask->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES), .max_background = 32, .congestion_threshold = 24, .max_write = WRITE_MAX,
		.time_gran = 1, .max_pages = WRITE_MAX / 4096 };
	answer(in, 0, &out, sizeof(out));
}

static void on_lookup(const struct fuse_in_header *in, const char *name) {
	uint64_t node = strcmp(name, "mark") == 0 ? MARK_NODE : 0;
	if (strncmp(name, "disk", 4) == 0 && name[4] >= '0' && name[4] <= '9' && name[5] == 0)
		node = 2 + (uint64_t)(name[4] - '0');
	if (node != MARK_NODE && !is_disk(node)) {
		answer(in, ENOENT, NULL, 0);
		return;
	}
	struct fuse_entry_out out = { .nodeid = node, .entry_valid = FOREVER, .attr_valid = FOREVER, .attr = attributes(node) };
	answer(in, 0, &out, sizeof(out));
}

static void on_attributes(const struct fuse_in_header *in) {
	struct fuse_attr_out out = { .attr_valid = FOREVER, .attr = attributes(in->nodeid) };
	answer(in, 0, &out, sizeof(out));
}

static void on_open(const struct fuse_in_header *in) {
	struct fuse_open_out out = { .open_flags = in->nodeid == MARK_NODE ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE };
	answer(in, 0, &out, sizeof(out));
}

static void on_read(const struct fuse_in_header *in, const struct fuse_read_in *ask) {
	static char data[WRITE_MAX];
	if (!is_disk(in->nodeid) || ask->size > sizeof(data)) {
		answer(in, in->nodeid == MARK_NODE ? 0 : EINVAL, NULL, 0);
		return;
	}
	ssize_t got = pread(disks[in->nodeid - 2].fd, data, ask->size, (off_t)ask->offset);
	answer(in, got < 0 ? errno : 0, data, got < 0 ? 0 : (size_t)got);
}

static void on_write(const struct fuse_in_header *in, const struct fuse_write_in *ask) {
	const char *data = (const char *)(ask + 1);
	struct fuse_write_out out = { .size = ask->size };
	if (in->nodeid == MARK_NODE) {
		note('M', 0, 0, data, ask->size);
	} else if (is_disk(in->nodeid)) {
		unsigned disk = (unsigned)in->nodeid - 2;
		bool zeros = all_zero(data, ask->size);
		note(zeros ? 'Z' : 'W', disk, ask->offset, zeros ? NULL : data, ask->size);
		if (pwrite(disks[disk].fd, data, ask->size, (off_t)ask->offset) != (ssize_t)ask->size)
			fail("cannot write the image");
	}
	answer(in, 0, &out, sizeof(out));
}

/* What the block layer makes of "write zeros" and "discard". */
static void on_fallocate(const struct fuse_in_header *in, const struct fuse_fallocate_in *ask) {
	if (!is_disk(in->nodeid) || !(ask->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		answer(in, EOPNOTSUPP, NULL, 0);
		return;
	}
	unsigned disk = (unsigned)in->nodeid - 2;
	for (uint64_t at = 0; at < ask->length; at += 1u << 30)
		note('Z', disk, ask->offset + at, NULL, ask->length - at < 1u << 30 ? (size_t)(ask->length - at) : 1u << 30);
	if (fallocate(disks[disk].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)ask->offset, (off_t)ask->length) < 0)
		fail("cannot write zeros to the image");
	answer(in, 0, NULL, 0);
}

static void on_fsync(const struct fuse_in_header *in) {
	if (is_disk(in->nodeid))
		note('F', (unsigned)in->nodeid - 2, 0, NULL, 0);
	answer(in, 0, NULL, 0);
}

static void on_statfs(const struct fuse_in_header *in) {
	struct fuse_statfs_out out = { .st = { .bsize = 4096, .namelen = 255 } };
	answer(in, 0, &out, sizeof(out));
}

/* False: unmounted. */
static bool serve(const char *request) {
	const struct fuse_in_header *in = (const struct fuse_in_header *)request;
	const void *body = in + 1;
	switch (in->opcode) {
	case FUSE_INIT: on_init(in, body); break;
	case FUSE_LOOKUP: on_lookup(in, body); break;
	case FUSE_GETATTR: case FUSE_SETATTR: on_attributes(in); break;
	case FUSE_OPEN: case FUSE_OPENDIR: on_open(in); break;
	case FUSE_READ: on_read(in, body); break;
	case FUSE_WRITE: on_write(in, body); break;
	case FUSE_FALLOCATE: on_fallocate(in, body); break;
	case FUSE_FSYNC: on_fsync(in); break;
	case FUSE_STATFS: on_statfs(in); break;
	case FUSE_READDIR: case FUSE_FLUSH: case FUSE_RELEASE: case FUSE_RELEASEDIR: answer(in, 0, NULL, 0); break;
	case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT: break;
	case FUSE_DESTROY: return false;
	default: answer(in, ENOSYS, NULL, 0);
	}
	return true;
}

static void open_disk(const char *path) {
	struct stat st;
	struct disk *d = &disks[disk_count++];
	d->fd = open(path, O_RDWR | O_CLOEXEC);
	if (d->fd < 0 || fstat(d->fd, &st) < 0)
		fail("cannot open %s", path);
	d->size = (uint64_t)st.st_size;
}

int main(int argc, char **argv) {
	static char request[BUFFER];
	char options[100];
	if (argc < 4 || argc > 3 + DISKS_MAX) {
		fprintf(stderr, "usage: record LOG MOUNTPOINT IMAGE...\n");
		return 100;
	}
	events = fopen(argv[1], "we");
	if (!events)
		fail("cannot open %s", argv[1]);
	for (int i = 3; i < argc; i++)
		open_disk(argv[i]);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
	if (fuse < 0 || mount("record", argv[2], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		fail("cannot mount %s", argv[2]);
	for (;;) {
		ssize_t got = read(fuse, request, sizeof(request));
		if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (got < 0 && errno != ENODEV)
			fail("cannot read from the kernel");
		if (got < (ssize_t)sizeof(struct fuse_in_header) || !serve(request))
			break;
	}
	return fclose(events) == 0 ? 0 : 111;
}
