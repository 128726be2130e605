// SPDX-License-Identifier: Apache-2.0
//
// The arena, and how functions fail.
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/status.h"
#include "tests/test.h"

static void zero_sized_requests_survive(void)
{
    oct_arena arena = {0};
    const char *a = oct_arena_alloc(&arena, 0), *b = oct_arena_alloc(&arena, 0);
    CHECK(a && b && a != b);
    CHECK(oct_arena_array(&arena, 0, 8) && oct_arena_array(&arena, 8, 0));
    oct_arena_deinit(&arena);
}

static void memory_is_aligned_zeroed_and_disjoint(void)
{
    oct_arena arena = {0};
    enum { COUNT = 600 };
    unsigned char *block[COUNT];
    bool is_aligned = true, is_zeroed = true, is_kept = true;
    for (size_t i = 0; i < COUNT; i++) {
        const size_t bytes = i * i % 40000;  // small ones, and some with a chunk of their own
        block[i] = oct_arena_alloc(&arena, bytes);
        is_aligned &= (uintptr_t)block[i] % alignof(max_align_t) == 0;
        for (size_t k = 0; k < bytes; k++) is_zeroed &= block[i][k] == 0;
        memset(block[i], (int)(i % 255 + 1), bytes);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < i * i % 40000; k++) is_kept &= block[i][k] == i % 255 + 1;
    }
    CHECK(is_aligned && is_zeroed && is_kept);
    oct_arena_deinit(&arena);
}

static void requests_larger_than_a_chunk_work(void)
{
    oct_arena arena = {0};
    char *large = oct_arena_alloc(&arena, (size_t)1 << 20);
    large[(1 << 20) - 1] = 1;
    char *small = oct_arena_alloc(&arena, 10);
    CHECK(small[9] == 0);
    oct_arena_deinit(&arena);
}

static void texts_are_copied_and_printed(void)
{
    oct_arena arena = {0};
    CHECK_TEXT(oct_arena_copy(&arena, "octavo"), "octavo");
    CHECK_TEXT(oct_arena_copy(&arena, ""), "");
    CHECK_TEXT(oct_arena_copy_n(&arena, "octavo", 3), "oct");
    CHECK_TEXT(oct_arena_copy_n(&arena, NULL, 0), "");
    CHECK_TEXT(oct_arena_print(&arena, "%s.%d", "blocks", 37), "blocks.37");
    const char *wide = oct_arena_print(&arena, "%0100000d", 5);
    CHECK(strlen(wide) == 100000 && wide[99999] == '5');
    oct_arena_deinit(&arena);
}

static void deinit_leaves_it_empty_and_usable(void)
{
    oct_arena arena = {0};
    oct_arena_deinit(&arena);
    oct_arena_copy(&arena, "first");
    oct_arena_deinit(&arena);
    CHECK(!arena.chunks);
    CHECK_TEXT(oct_arena_copy(&arena, "second"), "second");
    oct_arena_deinit(&arena);
}

// The exit code of a child that asks for count x bytes, with its message thrown away.
static int exit_of_request(size_t count, size_t bytes)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        oct_arena arena = {0};
        if (!freopen("/dev/null", "w", stderr)) _exit(99);
        oct_arena_array(&arena, count, bytes);
        _exit(0);
    }
    int state = 0;
    waitpid(child, &state, 0);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

static void an_impossible_request_ends_the_process(void)
{
    CHECK(exit_of_request(SIZE_MAX / 2, 4) == 3);
    CHECK(exit_of_request(1, SIZE_MAX) == 3);
    CHECK(exit_of_request(1, SIZE_MAX - 8) == 3);
    CHECK(exit_of_request(1, 16) == 0);
}

static void views_are_put_in_front(void)
{
    oct_err err;
    CHECK(oct_fail(&err, OCT_EFORMAT, "row count %d is not in 1..%d", 0, 9) == OCT_EFORMAT);
    CHECK(oct_wrap(&err, OCT_EFORMAT, "cannot load '%s'", "a.q") == OCT_EFORMAT);
    CHECK_TEXT(err.text, "cannot load 'a.q': row count 0 is not in 1..9");
}

static void arguments_may_be_the_text_itself(void)
{
    oct_err err;
    oct_fail(&err, OCT_EIO, "disk");
    oct_fail(&err, OCT_EIO, "the %s is full", err.text);
    CHECK_TEXT(err.text, "the disk is full");
    oct_wrap(&err, OCT_EIO, "<%s>", err.text);
    CHECK_TEXT(err.text, "<the disk is full>: the disk is full");
}

static void long_sentences_are_cut(void)
{
    oct_err err;
    oct_fail(&err, OCT_EIO, "%03000d", 1);
    CHECK(strlen(err.text) == sizeof err.text - 1);
    oct_wrap(&err, OCT_EIO, "front");
    CHECK(strlen(err.text) == sizeof err.text - 1 && !strncmp(err.text, "front: 000", 10));
    oct_wrap(&err, OCT_EIO, "%03000d", 2);
    CHECK(strlen(err.text) == sizeof err.text - 1);
}

static void nobody_needs_to_read_the_sentence(void)
{
    CHECK(oct_fail(NULL, OCT_ENOMEM, "unread") == OCT_ENOMEM);
    CHECK(oct_wrap(NULL, OCT_EIO, "unread") == OCT_EIO);
}

static void exit_codes_follow_the_status(void)
{
    CHECK(oct_exit_code(OCT_OK) == 0 && oct_exit_code(OCT_EUSAGE) == 2);
    CHECK(oct_exit_code(OCT_EIO) == 3 && oct_exit_code(OCT_EDEVICE) == 3);
}

int main(void)
{
    RUN(zero_sized_requests_survive);
    RUN(memory_is_aligned_zeroed_and_disjoint);
    RUN(requests_larger_than_a_chunk_work);
    RUN(texts_are_copied_and_printed);
    RUN(deinit_leaves_it_empty_and_usable);
    RUN(an_impossible_request_ends_the_process);
    RUN(views_are_put_in_front);
    RUN(arguments_may_be_the_text_itself);
    RUN(long_sentences_are_cut);
    RUN(nobody_needs_to_read_the_sentence);
    RUN(exit_codes_follow_the_status);
    return test_end();
}
