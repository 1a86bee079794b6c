/*
 * fuzz_manifest - the text of a backup's manifest: as it is, and with the checksum that would be right. A path that is handed out leads to two
 * plain names and nowhere else.
 */
#include <stdlib.h>
#include <string.h>

#include "common/crc32c.h"
#include "queue/store/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct bytes text)
{
	struct manifest_file file;
	struct bytes files;
	uint64_t count;
	if (manifest_parse(text, &files, &count))
		return;
	while (manifest_next(&files, &file)) {
		if (file.path.len > 0 && (file.path.at[0] == '/' || file.path.at[0] == '.' || bytes_find(file.path, '/') + 1 >= file.path.len ||
			file.path.at[bytes_find(file.path, '/') + 1] == '.'))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = STR_INIT(1u << 20);
	read_all((struct bytes){ (const char *)data, size });
	if (str_add_c(&text, "tappal-backup 1\n") && str_add(&text, (struct bytes){ (const char *)data, size < 100000 ? size : 100000 }) &&
		str_add_char(&text, '\n') && manifest_end(&text, size % 7))
		read_all(str_bytes(&text));
	str_free(&text);
	return 0;
}
