// SPDX-License-Identifier: Apache-2.0
//
// A verification as a whole, in what the cases of tests/cli cannot set up.
#include "verify/check.h"

#include <stdlib.h>

#include "tests/ptq/model.h"
#include "tests/test.h"

// One block of one head.
static const model_spec smallest = {1, 1, 0, true, 4, 16, 16, OCT_F16, true};

static const char *save(const char *meta)
{
    model_file file = {0};
    const char *path = model_path("model.safetensors");
    model_add_sai(&file, &smallest, "");
    file.meta = meta;
    model_save(&file, path);
    model_deinit(&file);
    return path;
}

// SHA-256 of the data behind the header, found without the library's idea of where that is.
static void hash_data(const char *path, char hex[OCT_SHA256_HEX])
{
    oct_arena arena = {0};
    char *text;
    size_t bytes;
    uint64_t header;
    CHECK(oct_file_read_text(&arena, path, 64 << 20, &text, &bytes, NULL) == OCT_OK);
    memcpy(&header, text, sizeof header);
    oct_sha256_of(text + 8 + header, bytes - 8 - header, hex);
    oct_arena_deinit(&arena);
}

static void verify(verify_job *job, const char *path)
{
    oct_err err = {{0}};
    *job = (verify_job){.o = {.file = path, .sqnr_db_min = -INFINITY}};
    CHECK(oct_verify_check(job, &err) == OCT_OK);
    CHECK_TEXT(err.text, "");
}

static void expect(const char *format, const char *digest, bool holds, const char *part)
{
    char meta[400];
    verify_job job;
    snprintf(meta, sizeof meta, format, digest);
    verify(&job, save(meta));
    CHECK(oct_verify_holds(&job) == holds);
    CHECK(job.findings.count == (part != NULL));
    CHECK(!part || (job.findings.count && strstr(job.findings.items[0].text, part)));
    oct_verify_deinit(&job);
}

static void digests_of_the_data_in_the_header_are_compared(void)
{
    static const char other[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    static const char modelspec[] = "{\"modelspec.hash_sha256\": \"0x%s\"}";
    static const char bare[] = "{\"modelspec.hash_sha256\": \"%s\"}";
    static const char sshs[] = "{\"sshs_model_hash\": \"%s\"}";
    char hex[OCT_SHA256_HEX];
    hash_data(save(NULL), hex);
    expect(modelspec, hex, true, NULL);
    expect(bare, hex, true, NULL);
    expect(sshs, hex, true, NULL);
    expect(modelspec, other, false, "'modelspec.hash_sha256' is stale: it says 0x0011");
    expect(modelspec, "", false, "is stale");
    expect(sshs, other, true, "'sshs_model_hash' is not the data's sha256");
}

static void warnings_fail_only_when_strict(void)
{
    verify_job job;
    verify(&job, save("{\"sshs_model_hash\": \"0\"}"));
    CHECK(oct_verify_holds(&job));
    job.o.strict = true;
    CHECK(!oct_verify_holds(&job));
    oct_verify_deinit(&job);
}

static void broken_metadata_of_ours_is_a_finding(void)
{
    expect("{\"octavo.qmax\": \"%s\"}", "many", false, "metadata 'octavo.qmax' is 'many'");
    expect("{\"octavo.qmax\": \"%s\"}", "0", false, "metadata 'octavo.qmax' is '0'");
    expect("{\"octavo.snap_scales\": \"%s\"}", "x", false, "metadata 'octavo.snap_scales' is 'x'");
    expect("{\"octavo.qmax\": \"%s\"}", "127", true, NULL);
}

static void checks_that_were_made_are_known(void)
{
    verify_job job;
    verify(&job, save(NULL));
    CHECK(job.findings.was_checked[OCT_CHECK_DIGEST] && job.findings.was_checked[OCT_CHECK_LOADER]);
    CHECK(!job.findings.was_checked[OCT_CHECK_DRIFT]);
    CHECK(job.is_open && job.is_readable && job.loader.is_known && !job.has_table);
    oct_verify_deinit(&job);
}

int main(void)
{
    RUN(digests_of_the_data_in_the_header_are_compared);
    RUN(warnings_fail_only_when_strict);
    RUN(broken_metadata_of_ours_is_a_finding);
    RUN(checks_that_were_made_are_known);
    return test_end();
}
