"""The sentences, by the name of the function that draws: what the axes are, what colours and marks mean.

A figure without a sentence here is an error of the tests; so is a sentence without a figure.
"""

from __future__ import annotations

READINGS: dict[str, str] = {
    "activation_atlas": "Each cell shows what an average of neighbouring activations looks for: near cells are "
    "alike, and a cell is drawn larger the more activations it averages.",
    "activation_gallery": "Each picture was made so that one class or unit responds to it as strongly as possible; "
    "below it stands the score that it reaches.",
    "activations": "Each panel is one layer on a scale of its own, a tile for each channel: white is zero, blue is "
    "larger, and where a layer has negative values red is positive and blue negative.",
    "attention_heads": "A row is a layer and a square a head: in it, each row is the token that attends, each column "
    "the token it attends to, from white (weight 0) to dark (weight 1).",
    "attribution_animation": "Each frame is one checkpoint of training: red speaks for the score, blue against it, "
    "and white is zero.",
    "attribution_bar": "A bar is what one feature adds to the score, the largest on top unless an order was given: "
    "red speaks for the score, "
    "blue against it, dark grey is a mean absolute value over many examples, and a line of text adds up all "
    "others.",
    "attribution_clusters": "Filled eigenvalues are as many as there are clusters; each row is a cluster, the most "
    "separate first, with its size, its mean attribution (red for, blue against the score) and its most typical "
    "examples.",
    "attribution_strip": "A row is one example and a column one checkpoint of training, the last at the right; red "
    "speaks for the score, blue against it, white is zero.",
    "cohorts": "A bar is the mean absolute attribution of a feature in one group of examples, a colour for each group, "
    "and the line through its end is two standard errors each way; a line of text says what the other "
    "features add up to.",
    "comparison": "A cell is a method's mean under a metric and is the darker the better its rank; the arrow says "
    "whether higher (↑) or lower (↓) values are better, ○ that features were removed to the method's own baseline, a "
    "dash that nothing is defined, grey names below the line are controls, and the second table says how far two "
    "metrics rank alike (Spearman, 1 is the same order, -1 the reverse).",
    "concept_gallery": "A row is one concept, the most important first, with its importance as a bar and the pieces "
    "in which it is strongest.",
    "concept_scores": "A dot is a concept's statistic with its confidence interval as a line; it means something "
    "where it lies outside the grey bar, which holds 95 % of the random concepts, and red raises the score, blue "
    "lowers it and grey is not significant.",
    "confusion_matrix": "A row is a true class and a column the model's answer, with the count and the share of the "
    "true class (darker is more): what stands on the diagonal is right.",
    "curves": "Each line is the mean score while more and more of the input is changed, its band the 95 % confidence "
    "interval of the mean over examples; the number in the legend is the area under the line, and a method says "
    "something where it leaves the dashed random control.",
    "decision": "A line is one example: it begins below at the baseline's score, moves at each feature by that "
    "feature's attribution and ends above at the example's score; where lines part, that feature tells them apart.",
    "dependence": "A point is one example: its attribution (up) over the value of the feature (right), coloured by a "
    "second feature where one is named (grey where that is missing), and the grey hills below say where values are "
    "frequent.",
    "drift_curves": "A line is the mean over examples of how far an explanation at a step ranks features as the last "
    "one does (1 is the same order, 0 none in common), its band the 95 % confidence interval of that mean.",
    "effects": "Each panel says how the score changes with one feature: the thick line (or a dot on a stem) is the "
    "mean effect, thin lines are single examples, and the strip at the bottom shows where there are data or, where "
    "none were given, where the effect was measured.",
    "example_dynamics": "Left, the share of examples that are right at each step (blue) and that stay right from "
    "there to the end (dashed green); in the middle a row for each example, green where it is right; right, how many "
    "examples became wrong again how often.",
    "feature_dashboard": "A row is one feature of the dictionary: the examples in which it is strongest with its "
    "values above, what it looks for and the outputs that it raises (red) or lowers (blue) where they were given, "
    "and at the right how large it is where it is active.",
    "filters": "Each picture is the weights of one output of the first layer: red is positive, blue negative and "
    "white zero; with three input channels the weights are colours around grey.",
    "force": "Red segments push the score up from the left and blue ones down from the right until they meet at this "
    "example's score; a segment is as long as its attribution, the dashed line is the baseline's score, and "
    "grey is the completeness gap.",
    "gradient_flow": "Rows are layers (the first on top), columns epochs: a gradient that fades towards the top "
    "vanishes, an update ratio near 0.001 is usual, dark cells of the last panel are dead units, and grey means zero "
    "or not finite.",
    "heatmaps": "Each map is as large as the image it explains: red pixels speak for the score, blue ones against "
    "it, white ones (clear ones, over a greyed image) do nothing, and the bar beside or below says what the colours "
    "are worth.",
    "importance": "A bar is how much a feature matters, the largest first, and the line through its end is two "
    "standard errors each way; blue bars are below zero.",
    "influential_examples": "A row begins with the example that is explained; green ones beside it are the training "
    "examples that made its score better, red ones those that made it worse, with their influence above.",
    "layer_table": "A row is one layer in the order in which the model uses it, and the last row adds up what can be "
    "added.",
    "learning_curves": "Blue is training and orange validation: a growing gap between them is overfitting, the ring "
    "and the dotted line mark the best epoch by validation loss, whose params fit keeps, and a red line marks the "
    "first epoch that is not finite.",
    "lens_over_training": "A row is a layer (the last on top) and a column a step of training: a cell is how "
    "probable the class is when the layer's state is read as if it were the last, the darker the more.",
    "lens_table": "A cell is the most probable token when a layer's state (the last layer on top) is read as if it "
    "were the last one, the darker the more probable.",
    "logo": "A letter is as high as its attribution at its position: above the line it speaks for the score, below it "
    "against it.",
    "loss_interpolation": "The line is the loss on the way from one solution to the other, the dashed line what a "
    "straight change would give; the barrier in the legend is how far the loss rises above it.",
    "loss_surface": "Colours are the loss over a plane through the params (dark is low); training began at the ring "
    "and ended at the star, and grey is not finite or was not evaluated.",
    "parameter_histograms": "Each panel counts the values of one array of params, with their mean and standard "
    "deviation (sd) above; the dotted line is zero, and red words count what is not finite.",
    "patching_map": "A cell is what patching one layer (row, the last on top) at one token (column) does to the "
    "score: red restores it, blue lowers it further, white does nothing.",
    "prediction_depths": "A bar counts the examples whose answer is settled from that layer on (settled late is "
    "hard, the last bar is of those that never are), and a dot is the share of examples in which a layer's probe "
    "agrees.",
    "predictions": "Beside each picture stand the model's most probable classes: green is the true class, red a "
    "wrong first answer, and the title says the answer and, where it is wrong, what it should have been.",
    "samples": "These are inputs as the model gets them, with their labels where they are known; rows of a table are "
    "coloured by column, from its least (light) to its greatest value (dark).",
    "scores_table": "A row is a method and a column a metric: a number is the mean over examples, ± half the width "
    "of its 95 % confidence interval; ↑ or ↓ says whether higher or lower is better, bold is the best method, * is "
    "better and ! is worse than the control by more than chance, a dash is no value, and grey rows are controls.",
    "series": "A panel is one channel over time, and colours say what each stretch adds to the score: red speaks for "
    "it, blue against it, white does nothing.",
    "singular_values": "Each panel is one weight matrix: its singular values, the largest first, beside the largest "
    "that chance would give (dashed); few values above the line mean that few directions were learnt.",
    "sound": "Above is the waveform and below its spectrogram, over seconds and hertz: red speaks for the score, blue "
    "against it, the more opaque the larger, and black and grey are the sound itself.",
    "summary": "A point is one example: how far right it lies is what the feature adds to the score, its colour the "
    "feature's value, and features are ordered by their mean absolute attribution.",
    "timings": "A dot is the median time of a program and its line the range over runs, on a logarithmic axis, where "
    "equal distances are equal factors; x says how many times as long a program takes as the first of its group.",
    "token_map": "A row is a generated token and a column a token that it may rest on: red speaks for it, blue "
    "against it, and grey ones come later and cannot be seen.",
    "tokens": "Red tokens speak for the score and blue ones against it; the stronger the colour, the larger the "
    "attribution, and the bar says where the colours end.",
    "tokens_html": "Red tokens speak for the score and blue ones against it; the stronger the colour, the larger the "
    "attribution, which stands in the tooltip of each token.",
    "top_examples": "A row is one list of examples in its own order, each with its value above and its label below.",
    "traces": "The upper line is the score over the steps; the lines below it say what each feature adds to it at "
    "each step, and a third row, where there is one, is the features themselves, divided by their largest size.",
    "unit_gallery": "For each unit the large picture was made to excite it, with the value it reaches; beside it "
    "stand the real patches that excite it most with their values, and below them the pixels that did it (mid-grey "
    "is zero).",
    "validation_curve": "A dot is one run and the line the median over seeds, the dotted line marks the best "
    "setting, red crosses are runs that diverged, and where two settings are varied a colour is the loss and the "
    "frame or ring the best place.",
    "waterfall": "Read upwards from the baseline's score (grey dashes) to this example's (black dashes): red bars "
    "raise the score, blue ones lower it, and a grey bar is what the attributions miss (the completeness gap).",
    "weight_matrices": "Each picture is one weight matrix, its rows downwards: red is positive, blue negative, white "
    "zero, and arrows at a bar's ends say that values lie beyond them.",
}
