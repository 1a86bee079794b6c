/*
 * manifest - see manifest.h. Room: queue (tappal).
 */
#include "manifest.h"

#include <string.h>

#include "common/crc32c.h"

static const char first_line[] = "tappal-backup 1\n";

void manifest_begin(struct str *out, wall_ms_t made)
{
	str_add_c(out, first_line);
	str_add_c(out, "made ");
	clock_rfc3339(made, out);
	str_add_char(out, '\n');
}

void manifest_add(struct str *out, const char *path, uint64_t size, uint32_t crc)
{
	str_addf(out, "file %s %llu %08lx\n", path, (unsigned long long)size, (unsigned long)crc);
}

bool manifest_end(struct str *out, uint64_t files)
{
	if (!str_addf(out, "end %llu ", (unsigned long long)files))
		return false;
	uint32_t crc = crc32c(0, out->at, out->len);
	return str_addf(out, "%08lx\n", (unsigned long)crc);
}

static bool take_hex(struct bytes b, uint32_t *value_r)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t value = 0;
	for (size_t i = 0; i < b.len; i++) {
		const char *d = memchr(digits, b.at[i], 16);
		if (!d)
			return false;
		value = value << 4 | (uint32_t)(d - digits);
	}
	*value_r = value;
	return b.len == 8;
}

static bool starts(struct bytes b, struct bytes with)
{
	return b.len >= with.len && memcmp(b.at, with.at, with.len) == 0;
}

const char *manifest_parse(struct bytes text, struct bytes *files_r, uint64_t *count_r)
{
	uint32_t crc;
	size_t last = text.len;
	if (!starts(text, LIT(first_line)))
		return "it is not of this version";
	if (text.at[text.len - 1] != '\n')
		return "it is not whole";
	do
		last--;
	while (last > 0 && text.at[last - 1] != '\n');
	struct bytes line = bytes_slice(text, last, text.len - 1), word = bytes_cut(&line, ' '), count = bytes_cut(&line, ' ');
	if (!bytes_equal(word, LIT("end")) || !bytes_to_u64(count, MANIFEST_LINES_MAX, count_r) || !take_hex(line, &crc))
		return "it is not whole";
	if (crc != crc32c(0, text.at, text.len - 1 - line.len))
		return "its checksum is wrong";
	*files_r = bytes_slice(text, sizeof first_line - 1, last);
	if (starts(*files_r, LIT("made ")))
		bytes_cut(files_r, '\n');
	return NULL;
}

/* log/..., large/..., index/..., intake/...: two plain names. */
static bool path_is_plain(struct bytes path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
	size_t slash = bytes_find(path, '/');
	if (path.len == 0 || path.len >= MANIFEST_PATH_MAX || slash == 0 || slash + 1 >= path.len || path.at[0] == '.' || path.at[slash + 1] == '.' ||
		bytes_find_last(path, '/') != slash)
		return false;
	for (size_t i = 0; i < path.len; i++) {
		if (!memchr(plain, path.at[i], sizeof plain - 1))
			return false;
	}
	return true;
}

bool manifest_next(struct bytes *files, struct manifest_file *file_r)
{
	*file_r = (struct manifest_file){ .size = 0 };
	if (files->len == 0)
		return false;
	struct bytes line = bytes_cut(files, '\n'), word = bytes_cut(&line, ' '), path = bytes_cut(&line, ' '), size = bytes_cut(&line, ' ');
	if (bytes_equal(word, LIT("file")) && path_is_plain(path) && bytes_to_u64(size, UINT64_MAX, &file_r->size) && take_hex(line, &file_r->crc))
		file_r->path = path;
	return true;
}
