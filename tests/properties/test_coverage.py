"""Which tests hold which property that keeps results true; each was once broken, silently, in a widely used library.

S1: how a batch is cut, padded, ordered or shared changes no gradient
    properties/test_batch_cutting.py::test_the_gradient_does_not_depend_on_the_cut
    properties/test_batch_cutting.py::test_the_gradient_does_not_depend_on_row_order_or_padding
    properties/test_batch_cutting.py::test_the_gradient_does_not_depend_on_the_cut_where_prompts_are_shared
    properties/test_batch_cutting.py::test_two_processes_sum_to_the_gradient_of_one
    properties/test_batch_cutting.py::test_the_gradient_of_what_a_filter_keeps_is_that_of_a_batch_that_never_held_the_rest
    policies/language/test_scoring.py::test_gradients_do_not_depend_on_how_rows_are_cut
    objectives/test_aggregation.py::test_micro_batches_add_up_to_the_whole

S2: groups are prompt instances
    properties/test_groups_and_masks.py::test_an_all_wrong_and_an_all_right_instance_of_one_text_give_no_advantage
    properties/test_groups_and_masks.py::test_groups_are_instances_whatever_their_texts_sizes_and_order
    properties/test_groups_and_masks.py::test_a_group_alone_gets_what_it_gets_in_a_batch
    properties/test_groups_and_masks.py::test_a_group_of_one_never_gets_its_reward_as_advantage
    properties/test_groups_and_masks.py::test_permuting_rows_permutes_advantages
    cli/test_bad_input.py::test_what_does_not_fit_together

S3: what stands in masked slots changes nothing
    properties/test_groups_and_masks.py::test_masked_slots_change_nothing_bit_for_bit
    objectives/test_masked_slots.py::test_results_do_not_depend_on_masked_slots
    objectives/test_masked_slots.py::test_gradients_do_not_depend_on_masked_slots
    objectives/test_masked_slots.py::test_conflict_weights_do_not_depend_on_masked_ids
    policies/language/test_scoring.py::test_what_stands_in_padding_cannot_matter

S4: unchanged weights give ratio 1 at every sampling setting, or it is refused
    policies/language/test_scoring.py::test_ratios_are_one_at_unchanged_weights
    policies/language/test_architectures.py::test_prompts_are_shared_only_where_the_results_are_the_same
    policies/language/test_scoring.py::test_settings_whose_ratios_would_be_wrong_are_refused
    properties/test_batch_cutting.py::test_at_unchanged_weights_every_surrogate_has_the_same_gradient

S5: what samples has the weights that are trained
    policies/language/test_scoring.py::test_the_gap_rises_without_a_sync_and_falls_with_one
    policies/language/test_scoring.py::test_a_gap_that_is_no_number_raises_the_alarm
    policies/language/test_adapters.py::test_all_of_an_adapters_effect_is_sampled_from_and_exported
    policies/language/test_architectures.py::test_sampler_and_trainer_agree_before_and_after_an_update
    training/language/test_hand_over.py::test_an_adapter_that_does_not_arrive_ends_the_run_although_it_has_no_effect_yet
    policies/language/test_adapters.py::test_a_disabled_adapter_is_not_sampled_from
    training/language/test_trainer.py::test_stale_weights_raise_the_alarm
    training/test_kill.py::test_killed_twice_with_more_state_equals_undisturbed
    properties/test_reference.py::test_reference_log_probabilities_stay_while_the_policys_move

S6: syncs leave frozen weights as they are
    policies/language/test_adapters.py::test_frozen_weights_are_untouched_and_the_last_sync_is_right
    policies/language/test_adapters.py::test_frozen_weights_are_untouched_by_a_thousand_syncs

S7: no dropout between two passes; at learning rate 0 nothing moves
    training/language/test_trainer.py::test_a_learning_rate_of_zero_keeps_every_ratio_at_one
    policies/language/test_scoring.py::test_training_mode_changes_nothing_once_dropout_is_removed
    policies/language/test_policy.py::test_dropout_is_removed_so_that_training_mode_changes_nothing

S8: a failed judgement is no zero and disturbs nobody
    properties/test_scoring.py::test_a_fifth_of_the_scores_breaks_and_is_counted_by_reason
    properties/test_scoring.py::test_the_others_advantages_are_those_of_a_batch_without_the_broken
    properties/test_scoring.py::test_the_scores_are_the_same_from_the_main_thread_a_thread_and_a_process
    properties/test_scoring.py::test_failures_stand_in_the_metrics_and_in_the_report
    properties/test_scoring.py::test_past_the_limit_the_run_stops_and_says_why
    rewards/test_combine.py::test_a_failure_is_never_zero_and_is_counted_by_reason
    rewards/test_combine.py::test_broken_scores_change_nothing_for_the_others
    training/language/test_trainer.py::test_failed_judgements_leave_the_others_advantages_alone
    rewards/test_workers.py::test_every_way_of_failing_has_its_reason_and_leaves_the_others_alone
    rewards/test_workers.py::test_threads_get_the_same_scores

S9: values do not leak over the end of an episode (of generalised advantages; there are no other targets of values yet)
    objectives/test_advantages.py::test_concatenated_episodes_equal_each_alone
    objectives/test_advantages.py::test_without_a_final_value_an_answer_counts_as_terminated
    systems/societies/stock_agent/test_train.py::test_rewards_add_up_to_the_change_of_log_wealth_and_end_with_whoever_leaves
    rollouts/test_control.py::test_terminated_and_truncated_are_told_apart_and_the_limit_truncates

S10: transitions are those that happened, in every reset mode, also where arrays are reused
    properties/test_control.py::test_stored_transitions_are_those_of_their_episode_and_step
    properties/test_control.py::test_a_final_observation_that_was_overwritten_is_never_stored
    rollouts/test_control.py::test_a_vector_env_gives_the_episodes_of_single_environments

S11: rewards, last observations and last episodes are where they belong; import, export, import is the identity
    properties/test_demonstrations.py::test_rewards_belong_to_the_steps_they_followed
    data/formats/test_minari.py::test_a_set_of_minaris_is_read_with_every_reward_at_its_step
    data/formats/test_minari.py::test_export_and_import_are_the_identity
    data/formats/test_minari.py::test_import_export_import_of_a_foreign_set_is_the_identity
    data/formats/test_numpy_archive.py::test_what_is_written_comes_back
    data/formats/test_hdf5.py::test_d4rl_episodes_end_where_flags_say_and_the_last_one_is_kept
    data/formats/test_hdf5.py::test_robomimic_demonstrations_come_in_the_order_of_their_numbers
    data/formats/test_lerobot.py::test_steps_of_episodes_that_share_files_are_told_apart

S12: padded actions change nothing; there is no batch without its mask
    properties/test_demonstrations.py::test_what_stands_in_padded_actions_changes_nothing_behind_the_mask
    properties/test_demonstrations.py::test_the_neighbours_steps_never_enter_a_window
    properties/test_demonstrations.py::test_a_batch_without_its_mask_cannot_be_made_nor_asked_under_another_name
    data/test_windows.py::test_a_window_holds_its_steps_and_repeats_the_ends

S13: steps and frames of a subset of episodes are those of the full set
    properties/test_demonstrations.py::test_steps_of_a_subset_are_those_of_the_full_set
    properties/test_demonstrations.py::test_windows_of_a_subset_are_those_of_the_full_set
    data/formats/test_lerobot.py::test_a_subset_equals_the_same_episodes_of_the_full_set

S14: what enters the loss is normalised, and evaluation changes no statistics
    properties/test_demonstrations.py::test_what_enters_the_loss_has_mean_0_and_deviation_1
    properties/test_demonstrations.py::test_evaluation_leaves_the_statistics_as_they_are
    properties/test_demonstrations.py::test_a_fresh_process_scales_as_this_one_does
    data/test_normalisers.py::test_what_was_normalised_comes_back
    data/test_normalisers.py::test_the_state_holds_everything_and_loads_into_an_unfitted_one

S15: evaluation begins where it was declared to, whatever the lanes and the policy
    properties/test_control.py::test_the_initial_states_are_the_declared_ones_for_different_policies
    rollouts/test_control.py::test_episodes_are_the_same_for_any_number_of_lanes

S16: pixels reach the loss and the actions of their own row, and of no other
    properties/test_pixels.py::test_the_loss_of_a_row_sees_every_frame_of_its_own_pixels_and_no_others
    properties/test_pixels.py::test_a_row_acts_by_its_own_pixels_and_no_others
    training/imitation/test_image_policy.py::test_the_pictures_decide_what_it_does

S17: the reference is not the policy; one end of sequence; padding side
    objectives/test_preference.py::test_the_loss_is_ln_two_when_the_policy_is_the_reference
    properties/test_reference.py::test_reference_log_probabilities_stay_while_the_policys_move
    properties/test_reference.py::test_the_divergence_from_the_reference_is_zero_at_the_first_step
    policies/language/test_scoring.py::test_one_end_of_sequence_is_trained_whatever_fills_the_padding
    policies/language/test_scoring.py::test_a_row_alone_scores_as_in_a_batch_on_either_side_of_padding

S19: one seed governs
    properties/test_seeds.py::test_drawing_from_the_global_generators_between_steps_changes_nothing
    properties/test_seeds.py::test_a_run_leaves_the_global_generators_where_they_were
    properties/test_seeds.py::test_no_two_prompts_of_a_run_share_the_seed_of_their_answers
    training/test_kill.py::test_another_process_writes_the_same_files_whatever_the_global_generators_are
    engines/test_sampling.py::test_global_generators_neither_matter_nor_move
    random/test_streams.py::test_seeds_are_the_same_in_every_process_and_version

S20: numbers can be computed again; the logged advantage is the consumed one
    properties/test_metrics.py::test_every_metric_can_be_computed_again_from_the_saved_answers
    properties/test_metrics.py::test_the_logged_advantage_is_the_tensor_that_the_loss_consumed
    training/language/test_trainer.py::test_every_metric_is_explained

S21: tokens are never encoded again
    policies/language/test_sampled_tokens.py::test_every_sampled_token_is_in_the_loss_once_under_its_own_id

S22: nothing outlives its limit
    rewards/test_workers.py::test_what_hangs_is_killed_at_the_limit_and_its_worker_replaced
    rewards/test_workers.py::test_threads_get_the_same_scores
    rewards/test_workers.py::test_processes_get_the_same_scores_and_leave_the_parent_s_workers_alone
    rewards/test_workers.py::test_mathematics_built_to_explode_ends_and_leaves_its_neighbours_alone
    rewards/test_math_equality.py::test_boxes_are_cut_with_their_braces_matched_and_in_linear_time

S23: intervals cover, and nothing is found where nothing is
    core/test_verdicts.py::test_intervals_cover_as_often_as_they_say
    core/test_verdicts.py::test_without_an_effect_claims_hold_in_at_most_5_percent
    core/test_verdicts.py::test_two_looks_together_hold_in_at_most_5_percent
    core/test_verdicts.py::test_a_rate_above_p_is_called_rare_in_at_most_5_percent
    core/test_verdicts.py::test_too_few_units_are_undecided_however_clear
    experiments/test_comparison.py::test_few_seeds_equal_arms_and_missing_numbers_stay_undecided

S24: killed and resumed equals undisturbed
    training/test_kill.py::test_killed_at_random_moments_equals_undisturbed
    training/test_kill.py::test_killed_inside_a_save_equals_undisturbed
    training/test_kill.py::test_killed_twice_with_more_state_equals_undisturbed
    training/test_kill.py::test_the_undisturbed_run_consumes_each_prompt_once_per_epoch
    training/language/test_trainer.py::test_a_resumed_run_equals_an_undisturbed_one
    runs/test_kill.py::test_killed_at_20_random_moments_equals_undisturbed
    runs/test_kill.py::test_killed_at_any_call_that_changes_the_disk_equals_undisturbed
    experiments/test_comparison.py::test_a_comparison_killed_while_arms_start_keeps_its_finished_jobs
    experiments/test_comparison.py::test_a_killed_comparison_goes_on_without_running_finished_jobs_again
    cli/test_run.py::test_a_resume_with_nothing_to_do_says_so_and_changes_nothing

S18 speaks of planners, which nobody has moved in with yet. The tests below read this list and see that what it names is
there, so that no property loses its proof unnoticed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PROPERTIES = {
    name: re.findall(r"^    (\S+)::(\S+)$", listed, re.M)
    for name, listed in re.findall(r"^(S\d+): [^\n]+\n((?:    \S+\n)+)", __doc__ or "", re.M)
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_tests_that_hold_a_property_are_there(name: str) -> None:
    for file, test in PROPERTIES[name]:
        tree = ast.parse((TESTS / file).read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, file


def test_every_property_of_what_there_is_is_held_by_something() -> None:
    """Those of language-model training, demonstrations, control, runs and verdicts."""
    assert list(PROPERTIES) == [f"S{number}" for number in (*range(1, 18), *range(19, 25))]
    assert all(PROPERTIES.values())
