// SPDX-License-Identifier: Apache-2.0
//
// The reports, of a comparison whose texts try to break out.
#include <stdlib.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/escape.h"
#include "common/file.h"
#include "common/json.h"
#include "regress/report.h"
#include "tests/regress/sample.h"
#include "tests/test.h"

static char *text_of(void (*put)(FILE *, const oct_comparison *))
{
    const oct_comparison comparison = sample_comparison();
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    put(out, &comparison);
    fclose(out);
    return text;
}

static void escapes_leave_nothing_to_break_out_with(void)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    oct_put_escaped(out, "<a b=\"c\" d='e'>&\x01\x7f\xc3\xa9\xff\xed\xa0\x80\t\n");
    fclose(out);
    CHECK_TEXT(text, "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9"
                     "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\t\n");
    free(text);
}

static size_t count(const char *text, const char *part)
{
    size_t n = 0;
    while ((text = strstr(text, part))) {
        n++;
        text++;
    }
    return n;
}

static void html_holds_hostile_texts_as_text(void)
{
    char *html = text_of(oct_report_html);
    CHECK(!strstr(html, "<script>alert"));
    CHECK(!strstr(html, "<i>blurry"));
    CHECK(!strstr(html, "<evil>"));
    CHECK(!strstr(html, "<judge>") && strstr(html, "&lt;judge&gt;&amp;&quot;1&quot; 0.25</span>"));
    CHECK(strstr(html, "&lt;/h3&gt;&lt;script&gt;alert(&#39;x&#39;)"));
    CHECK(count(html, "<script>") == 1 && count(html, "</script>") == 1);
    free(html);
}

static void html_needs_no_network(void)
{
    char *html = text_of(oct_report_html);
    CHECK(!strstr(html, "http:") && !strstr(html, "https:") && !strstr(html, "src=\"//"));
    CHECK(count(html, "<article") == 2);
    CHECK(count(html, "<figure class=\"reference\"") == 2);
    CHECK(count(html, "<figure class=\"candidate") == 4);
    CHECK(strstr(html, "src=\"images/1-all/fox-7.png\""));
    CHECK(strstr(html, "identical"));
    CHECK(strstr(html, "PSNR 23.87 dB is below 30 dB"));
    free(html);
}

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item) printf("# '%s' is missing\n", key);
    CHECK(item);
    return item;
}

static void json_reads_back_with_its_numbers(void)
{
    const oct_comparison comparison = sample_comparison();
    cJSON *root = oct_report_json(&comparison), *read = NULL;
    char *text = oct_json_print(root);
    oct_err err = {0};

    CHECK(oct_json_parse(text, strlen(text), &read, &err) == OCT_OK);
    CHECK(cJSON_IsFalse(member(read, "pass")));
    const cJSON *all = cJSON_GetArrayItem(member(read, "candidates"), 0);
    const cJSON *same = cJSON_GetArrayItem(member(all, "outcomes"), 0);
    CHECK(cJSON_IsTrue(member(same, "identical")));
    CHECK(cJSON_IsNull(member(same, "psnr_db")));
    CHECK_NEAR(member(member(all, "summary"), "psnr_db_mean")->valuedouble, 34.36, 0);
    CHECK(cJSON_IsNull(member(member(read, "gate"), "flip_max")));
    CHECK(strstr(text, "\"seed\": 18446744073709551615"));
    const cJSON *score =
        cJSON_GetArrayItem(member(cJSON_GetArrayItem(member(read, "candidates"), 1), "scores"), 0);
    CHECK_TEXT(member(score, "metric")->valuestring, SAMPLE_METRIC);
    CHECK_TEXT(member(score, "verdict")->valuestring, "fails");
    CHECK_NEAR(member(score, "difference")->valuedouble, -0.625, 0);
    CHECK_NEAR(member(member(same, "scores"), SAMPLE_METRIC)->valuedouble, 1, 0);
    cJSON_Delete(root);
    cJSON_Delete(read);
    free(text);
}

static void junit_has_a_suite_per_candidate_and_a_case_per_prompt(void)
{
    char *xml = text_of(oct_report_junit);
    CHECK(count(xml, "<testsuite ") == 2);
    CHECK(count(xml, "<testcase ") == 6);
    CHECK(count(xml, "<failure ") == 2);
    CHECK(strstr(xml, "<testsuites name=\"octavo-regress\" tests=\"6\" failures=\"2\">"));
    CHECK(strstr(xml, "name=\"mean of &lt;judge&gt;&amp;&quot;1&quot;\""));
    CHECK(strstr(xml,
                 "<testsuite name=\"&lt;evil&gt;&amp;.safetensors\" tests=\"3\" failures=\"2\""));
    CHECK(strstr(xml, "<property name=\"psnr_db\" value=\"inf\"/>"));
    CHECK(strstr(xml, "<property name=\"psnr_db\" value=\"23.87\"/>"));
    free(xml);
}

static void summary_counts_identical_pictures_apart(void)
{
    const oct_comparison comparison = sample_comparison();
    const oct_summary *all = &comparison.candidates[0].summary;
    const oct_summary *evil = &comparison.candidates[1].summary;

    CHECK(all->n_identical == 1 && all->n_failed == 0);
    CHECK_NEAR(all->psnr_db_mean, 34.36, 0);
    CHECK_NEAR(all->psnr_db_pooled, 10 * log10(255.0 * 255.0 / 11.9), 1e-12);
    CHECK_NEAR(evil->psnr_db_mean, (23.87 + 31.76) / 2, 1e-12);
    CHECK_NEAR(evil->psnr_db_worst, 23.87, 0);
    CHECK_NEAR(evil->flip_worst, 0.16, 0);
    CHECK(evil->n_failed == 1);
}

static void reports_are_saved_as_three_files(void)
{
    const oct_comparison comparison = sample_comparison();
    char folder[] = "/tmp/octavo-report-XXXXXX";
    oct_arena arena = {0};
    oct_err err = {0};
    static const char *const names[] = {"report.json", "report.html", "junit.xml"};

    CHECK(mkdtemp(folder));
    CHECK(oct_report_save(&comparison, folder, &err) == OCT_OK);
    for (size_t i = 0; i < 3; i++) {
        const char *path = oct_path_join(&arena, folder, names[i]);
        CHECK(unlink(path) == 0);
    }
    CHECK(rmdir(folder) == 0);
    CHECK(oct_report_save(&comparison, folder, &err) == OCT_EIO);
    oct_arena_deinit(&arena);
}

int main(void)
{
    RUN(escapes_leave_nothing_to_break_out_with);
    RUN(html_holds_hostile_texts_as_text);
    RUN(html_needs_no_network);
    RUN(json_reads_back_with_its_numbers);
    RUN(junit_has_a_suite_per_candidate_and_a_case_per_prompt);
    RUN(summary_counts_identical_pictures_apart);
    RUN(reports_are_saved_as_three_files);
    return test_end();
}
