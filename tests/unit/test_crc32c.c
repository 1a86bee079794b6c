/* test_crc32c - known answers of RFC 3720 B.4, and the two implementations against each other. */
#include "unit.h"
#include "common/crc32c.h"

static void known_answers(void **state)
{
	unsigned char data[32];
	(void)state;
	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
	memset(data, 0, sizeof data);
	assert_int_equal(crc32c(0, data, 32), 0x8a9136aau);
	memset(data, 0xff, sizeof data);
	assert_int_equal(crc32c(0, data, 32), 0x62a8ab43u);
	for (unsigned i = 0; i < 32; i++)
		data[i] = (unsigned char)i;
	assert_int_equal(crc32c(0, data, 32), 0x46dd794eu);
	for (unsigned i = 0; i < 32; i++)
		data[i] = (unsigned char)(31 - i);
	assert_int_equal(crc32c(0, data, 32), 0x113fdb5cu);
}

static void pieces_and_implementations_agree(void **state)
{
	unsigned char data[200];
	uint32_t seed = 0x12345678;
	(void)state;
	for (size_t i = 0; i < sizeof data; i++) {
		seed = seed * 1664525u + 1013904223u;
		data[i] = (unsigned char)(seed >> 24);
	}
	for (size_t from = 0; from < 9; from++)
		for (size_t n = 0; n + from <= sizeof data; n++) {
			uint32_t whole = crc32c(7, data + from, n);
			assert_int_equal(whole, crc32c_table(7, data + from, n));
			assert_int_equal(whole, crc32c(crc32c(7, data + from, n / 3), data + from + n / 3, n - n / 3));
		}
}

static void every_single_bit_counts(void **state)
{
	unsigned char data[64] = { 0 };
	(void)state;
	uint32_t before = crc32c(0, data, sizeof data);
	for (size_t bit = 0; bit < sizeof data * 8; bit++) {
		data[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_not_equal(crc32c(0, data, sizeof data), before);
		data[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers), cmocka_unit_test(pieces_and_implementations_agree), cmocka_unit_test(every_single_bit_counts),
	};
	return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
