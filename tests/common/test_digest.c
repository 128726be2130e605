// SPDX-License-Identifier: Apache-2.0
//
// Digests against published values: FIPS 180-4 examples, xxHash's own sanity checks.
#include <stdlib.h>
#include <unistd.h>

#include "common/digest.h"
#include "tests/test.h"

static const char *const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char *const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char *const million_a =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void sha256_matches_published_values(void)
{
    char hex[OCT_SHA256_HEX];
    oct_sha256_of("abc", 3, hex);
    CHECK_TEXT(hex, abc);
    oct_sha256_of("", 0, hex);
    CHECK_TEXT(hex, empty);
}

static void sha256_does_not_depend_on_the_pieces(void)
{
    char hex[OCT_SHA256_HEX];
    static char a[1000];
    oct_sha256 sha;
    memset(a, 'a', sizeof a);
    oct_sha256_begin(&sha);
    for (int i = 0; i < 2000; i++) oct_sha256_add(&sha, a, i % 2 ? 999 : 1);
    oct_sha256_end(&sha, hex);
    CHECK_TEXT(hex, million_a);
    CHECK(!sha.context);
}

#define SOURCE_PIECES 300

typedef struct source {
    uint64_t breaks_at;
} source;

// Piece i is i % 7 + 1 times the letter of i % 26; some take longer than those behind them.
static oct_status fill(void *context, uint64_t index, void *to, size_t *bytes, oct_err *err)
{
    const source *s = context;
    if (index == s->breaks_at) return oct_fail(err, OCT_EIO, "piece %d is not there", (int)index);
    if (index % 5 == 0) usleep(300);
    *bytes = index % 7 + 1;
    memset(to, 'a' + (int)(index % 26), *bytes);
    return OCT_OK;
}

static void pieces_are_digested_in_order_whoever_brings_them(void)
{
    char want[OCT_SHA256_HEX], got[OCT_SHA256_HEX], piece[7];
    oct_sha256 sha;
    oct_err err;
    source whole = {.breaks_at = UINT64_MAX};
    oct_sha256_begin(&sha);
    for (uint64_t i = 0; i < SOURCE_PIECES; i++) {
        size_t bytes;
        CHECK(fill(&whole, i, piece, &bytes, &err) == OCT_OK);
        oct_sha256_add(&sha, piece, bytes);
    }
    oct_sha256_end(&sha, want);
    for (size_t threads = 1; threads <= 9; threads += 4) {
        oct_pieces pieces = {SOURCE_PIECES, sizeof piece, fill, &whole};
        CHECK(oct_sha256_of_pieces(&pieces, threads, got, &err) == OCT_OK);
        CHECK_TEXT(got, want);
        for (uint64_t at = 0; at < SOURCE_PIECES; at += 299) {
            pieces.context = &(source){.breaks_at = at};
            CHECK(oct_sha256_of_pieces(&pieces, threads, got, &err) == OCT_EIO);
            CHECK(!got[0] && !strncmp(err.text, "piece", 5));
        }
    }
}

static void files_are_digested_whole(void)
{
    char path[] = "/tmp/octavo-test-XXXXXX", hex[OCT_SHA256_HEX];
    const size_t bytes = 9500001;  // more pieces than are in memory at once
    char *data = calloc(bytes, 1);
    for (size_t i = 0; i < bytes; i++) data[i] = (char)(i * 31 >> 3);
    const int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);

    oct_file file = {0};
    oct_err err;
    char want[OCT_SHA256_HEX];
    oct_sha256_of(data, bytes, want);
    CHECK(oct_file_open(&file, path, &err) == OCT_OK);
    CHECK(oct_sha256_of_file(&file, hex, &err) == OCT_OK);
    CHECK_TEXT(hex, want);
    oct_sha256_of(data + 12345, bytes - 12345, want);
    CHECK(oct_sha256_of_range(&file, 12345, hex, &err) == OCT_OK);
    CHECK_TEXT(hex, want);
    oct_sha256_of("", 0, want);
    CHECK(oct_sha256_of_range(&file, bytes, hex, &err) == OCT_OK);
    CHECK_TEXT(hex, want);

    CHECK(truncate(path, 2000000) == 0);
    CHECK(oct_sha256_of_file(&file, hex, &err) == OCT_EIO);
    CHECK_TEXT(hex, "");
    oct_file_close(&file);
    unlink(path);
    free(data);
}

static void chunks_give_the_digest_of_the_data(void)
{
    const uint64_t sizes[] = {0, 1, OCT_DIGEST_CHUNK - 1, OCT_DIGEST_CHUNK,
                              3 * OCT_DIGEST_CHUNK + 5};
    uint8_t *data = malloc(3 * OCT_DIGEST_CHUNK + 5);
    for (uint64_t i = 0; i < 3 * OCT_DIGEST_CHUNK + 5; i++) data[i] = (uint8_t)(i * 37 >> 5);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        oct_xxh128 chunks[4];
        char whole[OCT_XXH128_HEX], pieces[OCT_XXH128_HEX];
        const uint64_t n = oct_digest_chunk_count(sizes[s]);
        CHECK(n == (sizes[s] + OCT_DIGEST_CHUNK - 1) / OCT_DIGEST_CHUNK);
        for (uint64_t i = n; i-- > 0;) {  // any order
            const uint64_t rest = sizes[s] - i * OCT_DIGEST_CHUNK;
            chunks[i] = oct_xxh128_of(data + i * OCT_DIGEST_CHUNK,
                                      rest < OCT_DIGEST_CHUNK ? rest : OCT_DIGEST_CHUNK);
        }
        oct_xxh128_hex(oct_digest_of_data(data, sizes[s]), whole);
        oct_xxh128_hex(oct_digest_of_chunks(chunks, n), pieces);
        CHECK_TEXT(pieces, whole);
    }
    free(data);
}

static void a_chunked_digest_is_that_of_the_canonical_digests(void)
{
    // XXH3-128 over the sixteen bytes 99aa06d3014798d86001c324468d497f, the digest of nothing.
    const oct_xxh128 nothing = oct_xxh128_of("", 0);
    static const char canonical[] = "\x99\xaa\x06\xd3\x01\x47\x98\xd8"
                                    "\x60\x01\xc3\x24\x46\x8d\x49\x7f";
    char got[OCT_XXH128_HEX], want[OCT_XXH128_HEX];
    oct_xxh128_hex(oct_digest_of_chunks(&nothing, 1), got);
    oct_xxh128_hex(oct_xxh128_of(canonical, 16), want);
    CHECK_TEXT(got, want);
}

static void an_empty_file_has_the_digest_of_nothing(void)
{
    char path[] = "/tmp/octavo-test-XXXXXX", hex[OCT_SHA256_HEX];
    oct_file file = {0};
    close(mkstemp(path));
    CHECK(oct_file_open(&file, path, NULL) == OCT_OK);
    CHECK(oct_sha256_of_file(&file, hex, NULL) == OCT_OK);
    CHECK_TEXT(hex, empty);
    oct_file_close(&file);
    unlink(path);
}

static void xxh128_is_printed_canonically(void)
{
    char hex[OCT_XXH128_HEX];
    oct_xxh128_hex(oct_xxh128_of("", 0), hex);
    CHECK_TEXT(hex, "99aa06d3014798d86001c324468d497f");
    oct_xxh128_hex((oct_xxh128){.low = 1, .high = 2}, hex);
    CHECK_TEXT(hex, "00000000000000020000000000000001");
}

int main(void)
{
    RUN(sha256_matches_published_values);
    RUN(sha256_does_not_depend_on_the_pieces);
    RUN(pieces_are_digested_in_order_whoever_brings_them);
    RUN(files_are_digested_whole);
    RUN(an_empty_file_has_the_digest_of_nothing);
    RUN(chunks_give_the_digest_of_the_data);
    RUN(a_chunked_digest_is_that_of_the_canonical_digests);
    RUN(xxh128_is_printed_canonically);
    return test_end();
}
