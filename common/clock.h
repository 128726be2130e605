// SPDX-License-Identifier: Apache-2.0
//
// How long things take.
#pragma once

double oct_now_s(void);  // seconds since some moment, never going back
